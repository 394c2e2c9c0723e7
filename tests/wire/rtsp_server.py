"""An RTSP server for the tests: `rtsp_server.py KEYINT [WIDTH HEIGHT FPS]`; prints its port.

GStreamer's own server with a drawn moving ball, H.264 by x264. One stream, `/ball`; more with `/1`, `/2`, ...
"""
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer

keyint, width, height, fps = [int(v) for v in (sys.argv[1:] + ["25", "640", "360", "25"][len(sys.argv) - 1:])]
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service("0")
for name in ["/ball"] + [f"/{i}" for i in range(8)]:
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        f"( videotestsrc is-live=true pattern=ball background-color=0xff406080 ! "
        f"video/x-raw,width={width},height={height},framerate={fps}/1 ! "
        f"x264enc tune=zerolatency speed-preset=ultrafast bitrate=512 key-int-max={keyint} ! "
        f"rtph264pay name=pay0 pt=96 config-interval=-1 )"
    )
    factory.set_shared(True)
    server.get_mount_points().add_factory(name, factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
