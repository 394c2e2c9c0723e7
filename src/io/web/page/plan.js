// The next 24 hours: what is drawn and given in each quarter of an hour, price, state of charge, and a lane
// for each actuator. The same numbers stand in a table below.
import { $, clock, el, kw, lang, t } from './words.js';

const W = 960, TOP = 14, H = 190, LANE = 16;
let drawn = '';

/** What is drawn upwards and what downwards, from the zero line outwards. */
const UP = [['other', (s) => Math.max(0, s.other_w)], ['chargers', (s) => s.chargers_w], ['battery', (s) => Math.max(0, -s.battery_w)]];
const DOWN = [['pv', (s) => s.pv_w], ['battery', (s) => Math.max(0, s.battery_w)]];

function chart(p, now) {
  const n = p.slots.length, x = (i) => i * W / n;
  const sum = (parts, s) => parts.reduce((all, [, f]) => all + f(s), 0);
  const most = Math.max(1000, ...p.slots.map((s) => Math.max(sum(UP, s), s.grid_w)));
  const least = Math.max(1000, ...p.slots.map((s) => Math.max(sum(DOWN, s), -s.grid_w)));
  const y = (w) => TOP + (most - w) / (most + least) * H;
  const bars = [];
  p.slots.forEach((s, i) => {
    for (const [parts, sign] of [[UP, 1], [DOWN, -1]]) {
      let at = 0;
      for (const [name, f] of parts) {
        const w = f(s);
        if (w > 0) bars.push(el('rect', { class: `p-${name}`, x: x(i), width: W / n + .3, y: y(sign > 0 ? at + w : -at), height: y(0) - y(w) }));
        at += w;
      }
    }
  });
  const step = (f, height) => p.slots.map((s, i) => `${x(i)},${height(f(s))} ${x(i + 1)},${height(f(s))}`).join(' ');
  const prices = p.slots.map((s) => s.price), low = Math.min(...prices), high = Math.max(...prices, low + 1e-9);
  const lines = [
    el('line', { class: 'p-zero', x1: 0, x2: W, y1: y(0), y2: y(0) }),
    el('polyline', { class: 'p-grid', points: step((s) => s.grid_w, y) }),
    el('polyline', { class: 'p-price', points: step((s) => s.price, (v) => TOP + H - (v - low) / (high - low) * H) }),
  ];
  if (p.limit_w <= most) lines.push(el('line', { class: 'p-limit', x1: 0, x2: W, y1: y(p.limit_w), y2: y(p.limit_w) }));
  if (p.slots[0].soc_pct !== null) lines.push(el('polyline', { class: 'p-soc', points: p.slots.map((s, i) => `${x(i)},${TOP + H - s.soc_pct / 100 * H}`).join(' ') }));
  const hours = [];
  p.slots.forEach((s, i) => { if (i % Math.round(4 * 3600 / p.step_s) === 0) hours.push(el('text', { class: 'p-hour', x: x(i), y: TOP + H + 14 }, clock(s.ts))); });
  const at = (new Date(now) - new Date(p.slots[0].ts)) / 1000 / p.step_s;
  const nowLine = el('line', { class: 'p-now', x1: x(at), x2: x(at), y1: TOP, y2: TOP + H });
  return el('svg', { viewBox: `0 0 ${W} ${TOP + H + 20}`, role: 'img', 'aria-label': t('page.plan_chart') }, ...bars, ...lines, ...hours, nowLine);
}

function lane(p, l) {
  const most = Math.max(1, ...l.power_w.map(Math.abs)), n = l.power_w.length;
  const blocks = l.power_w.map((w, i) => Math.abs(w) < 1 ? null : el('rect', { class: l.kind === 'battery' ? (w > 0 ? 'p-battery' : 'p-pv') : 'p-chargers', x: i * W / n, width: W / n + .3, y: LANE * (1 - Math.abs(w) / most), height: LANE * Math.abs(w) / most }));
  const target = l.target ? t('page.plan_target', { kwh: (l.target.energy_wh / 1000).toFixed(1), by: clock(l.target.by) }) : '';
  return el('div', { class: 'lane', 'data-test': `lane-${l.id}` }, el('span', {}, `${l.name} ${target}`),
    el('svg', { viewBox: `0 0 ${W} ${LANE}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' }, ...blocks.filter(Boolean)));
}

function table(p) {
  const names = ['time', 'price', 'grid', 'pv', 'battery', 'chargers', 'other', 'soc'];
  const cells = (s) => [clock(s.ts), `${s.price.toFixed(3)} ${p.currency}/kWh`, kw(s.grid_w), kw(s.pv_w), kw(s.battery_w), kw(s.chargers_w), kw(s.other_w), s.soc_pct === null ? '–' : s.soc_pct.toFixed(0) + ' %'];
  return el('details', {}, el('summary', {}, t('page.plan_table')), el('div', { class: 'scroll' }, el('table', {},
    el('thead', {}, el('tr', {}, ...names.map((k) => el('th', {}, t('page.plan_' + k))))),
    el('tbody', {}, ...p.slots.map((s) => el('tr', {}, ...cells(s).map((c) => el('td', {}, c))))))));
}

export function plan(o, now) {
  const p = o.plan;
  $('plan-card').hidden = !p;
  if (!p) return;
  const key = lang + p.made + Math.floor(new Date(now) / 60000);
  if (key === drawn) return;      // so that an open table stays open
  drawn = key;
  const open = $('plan').querySelector('details')?.open ?? false;
  const key_of = (name, cls) => el('span', { class: 'key' }, el('svg', { viewBox: '0 0 10 10', 'aria-hidden': 'true' }, el('rect', { class: cls, width: 10, height: 10 })), t('page.plan_' + name));
  const legend = el('p', { class: 'legend' }, ...[['pv', 'p-pv'], ['battery', 'p-battery'], ['chargers', 'p-chargers'], ['other', 'p-other'], ['grid', 'p-grid'], ['price', 'p-price'], ['soc', 'p-soc'], ['limit', 'p-limit']].map(([n, c]) => key_of(n, c)));
  const made = el('p', { class: 'note' }, t('page.plan_made', { at: clock(p.made) }));
  const twin = table(p);
  twin.open = open;
  $('plan').replaceChildren(el('div', { class: 'scroll' }, chart(p, now)), legend, ...p.lanes.map((l) => lane(p, l)), twin, made);
}
