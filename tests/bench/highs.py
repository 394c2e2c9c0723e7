"""The planner's fluid problem for HiGHS, from a scenario file: prints seconds of CPU and score. Needs scipy (with its HiGHS).

Energy not served costs 10 a kWh; overload is not allowed. Built for a comparison of times, not for use.
"""
import json, sys, time
import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_matrix

site = json.load(open(sys.argv[1]))
T, hours = site["steps"], site["step_s"] / 3600.0
whole = lambda value: np.broadcast_to(np.asarray(value, float), (T,))
grid, store = site["grid"], site.get("battery")
volts = grid.get("voltage", 230.0)
sun, base = whole(site.get("pv_kw", 0)), whole(site.get("base_load_kw", 0))
cost, low, high = [], [], []
equal, upper = [], []          # rows: (list of (column, value), right-hand side)


def columns(count, price, least, most):
    start = len(cost)
    cost.extend(np.broadcast_to(price, (count,)))
    low.extend(np.broadcast_to(least, (count,)))
    high.extend(np.broadcast_to(most, (count,)))
    return np.arange(start, start + count)


per_kw, so_far = site.get("demand_charge_per_kw", 0), site.get("peak_so_far_kw", 0)
take = columns(T, hours * whole(site["import_price"]), 0, whole(grid["import_kw"]))
give = columns(T, -hours * whole(site.get("export_price", 0)), 0, whole(grid.get("export_kw", 1e6)))
curtail = columns(T, 0, 0, sun)
peak = columns(1, per_kw, so_far, np.inf)[0]
balance = [[(take[t], 1), (give[t], -1), (curtail[t], -1)] for t in range(T)]
phase = [[[(curtail[t], 1 / 3)] for t in range(T)] for _ in range(3)]
upper += [([(take[t], 1), (peak, -1)], 0) for t in range(T) if per_kw > 0]
if store:
    wear = hours * store.get("wear_per_kwh", 0) / 2
    charge = columns(T, wear, 0, store["charge_kw"])
    drain = columns(T, wear, 0, store["discharge_kw"])
    least = np.full(T, store["soc_min_kwh"], float)
    least[-1] = max(least[-1], store.get("soc_end_min_kwh", 0))
    level = columns(T, 0, least, store["soc_max_kwh"])
    for t in range(T):
        row = [(level[t], 1), (charge[t], -hours * store["eff_charge"]), (drain[t], hours / store["eff_discharge"])]
        equal.append((row + ([(level[t - 1], -1)] if t else []), 0 if t else store["soc0_kwh"]))
        balance[t] += [(charge[t], -1), (drain[t], 1)]
        for p in range(3):
            phase[p][t] += [(charge[t], 1 / 3), (drain[t], -1 / 3)]
        if store.get("no_discharge_to_grid"):
            upper.append(([(give[t], 1), (curtail[t], 1)], sun[t]))
place = {}
for load in site.get("evs", []) + site.get("compute", []):
    lines = load.get("phases", [1, 2, 3])
    wired = load.get("max_a", 32) * volts * len(lines) / 1e3 if "arrival" in load else np.inf
    most = min(load.get("max_kw", np.inf), wired)
    first, last = load.get("arrival", load.get("release")), load.get("departure", load.get("deadline"))
    steps = range(max(0, first), min(T, last))
    power = columns(len(steps), 0, 0, most)
    missing = columns(1, 10, 0, load["kwh"])[0]
    equal.append(([(k, hours) for k in power] + [(missing, 1)], load["kwh"]))
    place[load["id"]] = dict(zip(steps, power))
    for t, k in zip(steps, power):
        balance[t].append((k, -1))
        for p in lines:
            phase[p - 1][t].append((k, 1 / len(lines)))
equal += [(row, base[t] - sun[t]) for t, row in enumerate(balance)]
if grid.get("phase_a"):
    limit, share = grid["phase_a"] * volts / 1e3, grid.get("base_phase_share", [1 / 3] * 3)
    for p in range(3):
        for t in range(T):
            rest = share[p] * base[t] - sun[t] / 3
            upper.append((phase[p][t], limit - rest))
            upper.append(([(k, -v) for k, v in phase[p][t]], limit + rest))
for group in site.get("groups", []):
    for t in range(T):
        row = [(place[m][t], 1) for m in group["members"] if t in place[m]]
        if row:
            upper.append((row, group["limit_kw"]))


def matrix(rows):
    entries = [(i, k, v) for i, (row, _) in enumerate(rows) for k, v in row]
    i, k, v = zip(*entries) if entries else ([], [], [])
    return coo_matrix((v, (i, k)), shape=(len(rows), len(cost))).tocsc(), np.array([b for _, b in rows], float)


(a_eq, b_eq), (a_ub, b_ub) = matrix(equal), matrix(upper)
began = time.process_time()
found = linprog(cost, a_ub, b_ub, a_eq, b_eq, bounds=np.column_stack([low, high]), method="highs")
print(f"{time.process_time() - began:.6f} {found.fun if found.success else float('nan'):.6f}")
