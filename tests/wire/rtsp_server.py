"""An RTSP server for the tests: `rtsp_server.py KEYINT [WIDTH HEIGHT FPS] [--password WORD] [--h265 OPTIONS]`; prints its port.

GStreamer's own server with a drawn moving ball, H.264 by x264, or H.265 by x265 with its options. One stream, `/ball`; more with `/1`, `/2`, ...;
colour bars with noise in a corner and nothing that moves with `/still0`, `/still1`, ...
"""
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
gi.require_version("GstRtsp", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer

numbers = [v for v in sys.argv[1:5] if v.isdigit()]
keyint, width, height, fps = [int(v) for v in (numbers + ["25", "640", "360", "25"][len(numbers):])]
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service("0")
stills = [f"/still{i}" for i in range(8)]
form, coder = "", f"x264enc tune=zerolatency speed-preset=ultrafast bitrate=512 key-int-max={keyint} ! rtph264pay"
if "--h265" in sys.argv:
    options = sys.argv[sys.argv.index("--h265") + 1]
    form, coder = "format=I420,", f"x265enc speed-preset=ultrafast bitrate=512 key-int-max={keyint} option-string={options} ! rtph265pay"
for name in ["/ball"] + [f"/{i}" for i in range(8)] + stills:
    pattern = "smpte" if name in stills else "ball background-color=0xff406080"
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        f"( videotestsrc is-live=true pattern={pattern} ! "
        f"video/x-raw,{form}width={width},height={height},framerate={fps}/1 ! "
        f"{coder} name=pay0 pt=96 config-interval=-1 )"
    )
    factory.set_shared(True)
    if "--password" in sys.argv:
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role("user", "media.factory.access", True)
        permissions.add_permission_for_role("user", "media.factory.construct", True)
        factory.set_permissions(permissions)
    server.get_mount_points().add_factory(name, factory)
if "--password" in sys.argv:
    # Digest, as cameras ask for it: `camera` may see everything, nobody else anything.
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth.add_digest("camera", sys.argv[sys.argv.index("--password") + 1], token)
    server.set_auth(auth)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
