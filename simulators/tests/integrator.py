"""What somebody does who tests another gateway: pymodbus reads and writes the devices of a site file, and every fault
switch shows on the wire. Prints what was seen as JSON, one list of [what, held, seen].

What a stranger gets wrong: the world goes on between two reads, so a moving value is held between two looks at the
truth. `argv`: address of the switches, framer (socket or rtu), JSON of name -> [host, port, unit].
"""

import json
import struct
import sys
import time
import urllib.error
import urllib.request

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.framer import FramerType

switches, framer, places = sys.argv[1], FramerType(sys.argv[2]), json.loads(sys.argv[3])
seen = []


def note(what, held, value):
    seen.append([what, bool(held), repr(value)])


def client(name, timeout=3.0):
    host, port, _ = places[name]
    return ModbusTcpClient(host, port=port, framer=framer, timeout=timeout, retries=0)


def fault(name, **switch):
    body = json.dumps({"device": name, **switch}).encode()
    try:
        with urllib.request.urlopen(f"http://{switches}/fault", body, timeout=5) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def truth():
    with urllib.request.urlopen(f"http://{switches}/truth", timeout=5) as answer:
        return json.load(answer)


def read(name, first, count, table="holding", timeout=3.0):
    """The words, or why there are none, on a connection of its own."""
    c = client(name, timeout)
    if not c.connect():
        return "refused"
    try:
        answer = getattr(c, f"read_{table}_registers")(first, count=count, device_id=places[name][2])
        return f"exception {answer.exception_code}" if answer.isError() else answer.registers
    except (ModbusException, OSError):
        return "nothing"
    finally:
        c.close()


def write(name, first, words, timeout=3.0):
    c = client(name, timeout)
    if not c.connect():
        return "refused"
    try:
        answer = c.write_registers(first, words, device_id=places[name][2])
        return f"exception {answer.exception_code}" if answer.isError() else "taken"
    except (ModbusException, OSError):
        return "nothing"
    finally:
        c.close()


def number(words):
    return struct.unpack(">f", struct.pack(">HH", *words))[0] if len(words) == 2 else float("nan")


def floats(value):
    return list(struct.unpack(">HH", struct.pack(">f", value)))


def between(what, look, true, margin):
    """A moving value lies between the truths before and after it."""
    before = true(truth())
    value = look()
    after = true(truth())
    low, high = sorted((before, after))
    note(what, low - margin <= value <= high + margin, (before, value, after))


def until(true, patience=30.0):
    end = time.monotonic() + patience
    while time.monotonic() < end and not true(truth()):
        time.sleep(0.2)


SETPOINT, METER_W, VOLTS = 1210, 52, 306

# Values, told and read.
note("setpoint taken", write("left", SETPOINT, floats(13.5)) == "taken", "")
note("setpoint shown", number(read("left", SETPOINT, 2)) == 13.5, read("left", SETPOINT, 2))
note("setpoint true", truth()["chargers"][0]["limit_a"] == 13.5, truth()["chargers"][0])
note("the other left alone", truth()["chargers"][1]["limit_a"] != 13.5, truth()["chargers"][1])
until(lambda t: t["chargers"][0]["current_a"][0] > 10)
between("charger current", lambda: number(read("left", 320, 2)), lambda t: t["chargers"][0]["current_a"][0], 0.5)
between("meter power", lambda: number(read("meter", METER_W, 2, "input")), lambda t: t["grid_w"], 900)

# Every switch, each seen and gone again.
def healed(what, device, good):
    status, why = fault(device)
    end, value = time.monotonic() + 5, None
    while time.monotonic() < end:
        value = good()
        if isinstance(value, list):
            break
    note(f"{what}: well again", status == 204 and isinstance(value, list), value)


volts = lambda timeout=3.0: read("left", VOLTS, 2, timeout=timeout)
for code in (1, 2, 3, 4, 5, 6, 8, 10, 11):
    fault("left", exception=code)
    note(f"exception {code}", volts() == f"exception {code}", volts())
healed("exceptions", "left", volts)
fault("left", broken=True)
note("broken", volts() == "exception 4", volts())
healed("broken", "left", volts)

fault("left", write_exception=3)
note("writes refused", write("left", SETPOINT, floats(9.0)) == "exception 3" and isinstance(volts(), list), volts())
fault("left", write_silent=True)
note("writes unanswered", write("left", SETPOINT, floats(9.0), 0.5) == "nothing" and isinstance(volts(), list), volts())
healed("writes", "left", volts)
fault("left", unknown_register=VOLTS + 1)
note("unknown register", volts() == "exception 2" and isinstance(read("left", 310, 2), list), volts())
healed("unknown register", "left", volts)

fault("left", silent=True)
note("silent", volts(0.5) == "nothing", "")
healed("silent", "left", volts)
fault("left", late_ms=700)
began = time.monotonic()
note("late", isinstance(volts(), list) and 0.7 <= time.monotonic() - began < 2.5, time.monotonic() - began)
note("too late", volts(0.3) == "nothing", "")
healed("late", "left", volts)

live = lambda: read("meter", 0, 12, "input")
note("alive", live() != live(), "")
fault("meter", frozen=True)
note("frozen", live() == live(), "")
healed("frozen", "meter", live)
fault("meter", garbage=0x7FC0)
note("garbage", live() == [0x7FC0] * 12, live())
healed("garbage", "meter", live)
for switch in ("short", "long", "wrong_unit"):
    fault("left", **{switch: True})
    value = volts(0.5)
    note(switch, not isinstance(value, list) or len(value) != 2, value)
    healed(switch, "left", volts)
fault("left", flips_ppm=1_000_000)
note("flips", not isinstance(volts(0.5), list), "")
healed("flips", "left", volts)

note("ignored: taken", write("left", SETPOINT, floats(13.5)) == "taken", "")
until(lambda t: t["chargers"][0]["current_a"][0] > 12)
fault("left", ignores_setpoint=True)
write("left", SETPOINT, floats(7.0))
note("ignored: shown", number(read("left", SETPOINT, 2)) == 7.0, read("left", SETPOINT, 2))
time.sleep(3.0)
note("ignored: not followed", truth()["chargers"][0]["current_a"][0] > 12, truth()["chargers"][0])
healed("ignored", "left", volts)

fault("left", foreign_a=9)
note("foreign writer", number(read("left", SETPOINT, 2)) == 9.0, read("left", SETPOINT, 2))
if framer is FramerType.SOCKET:
    first = client("left")
    first.connect()
    first.read_holding_registers(VOLTS, count=2, device_id=places["left"][2])
    fault("left", one_client=True)
    note("one client", not isinstance(volts(0.5), list), "")
    kept = first.read_holding_registers(VOLTS, count=2, device_id=places["left"][2])
    note("one client: the first stays", not kept.isError(), "")
    first.close()
    healed("one client", "left", volts)
    fault("left", unreachable=True)
    note("unreachable", volts() == "refused", volts())
    healed("unreachable", "left", volts)

write("left", SETPOINT, floats(20.0))
fault("left", reboot=True)
healed("reboot", "left", volts)
note("reboot: forgotten", number(read("left", SETPOINT, 2)) != 20.0, read("left", SETPOINT, 2))

status, why = fault("right", exception=9)
note("nonsense is refused", status == 400 and "9" in why, (status, why))
status, why = fault("nobody", silent=True)
note("strangers are refused", status == 400 and "left" in why, (status, why))
print(json.dumps(seen))
