// The page: one document a second from the stream, drawn as it is. It keeps nothing but the language, the
// theme and the name of whoever acknowledges. A number is never shown without its age.
import { $, age, el, kw, lang, live_in, ready, speak, t, time, told } from './words.js';
import { alarms } from './alarms.js';
import { charging } from './charging.js';
import { jobs } from './jobs.js';
import { plan } from './plan.js';

const OLD_S = 9;            // three periods of the slowest value
const LOST_MS = 4000;       // the stream brings a document each second
let newest = null, arrived = 0;

async function setLanguage(wanted) {
  await speak(wanted);
  document.documentElement.lang = lang === 'zh' ? 'zh-CN' : 'en';
  for (const e of document.querySelectorAll('[data-text]')) e.textContent = t(e.dataset.text);
  $('lang').textContent = lang === 'zh' ? 'English' : '中文';
  $('theme').textContent = t('page.theme');
  $('simulated').textContent = t('page.simulated');
  draw();
}

function chooseLanguage() {
  const asked = new URLSearchParams(location.search).get('lang');
  const stored = localStorage.getItem('lang');
  const wanted = asked ?? stored ?? navigator.language;
  return wanted.toLowerCase().startsWith('zh') ? 'zh' : 'en';
}

function strip(o, d) {
  const worst = Math.max(...o.limit_a.map((limit) => limit));
  const used = o.headroom_a === null ? null : Math.max(0, worst - o.headroom_a);
  const share = used === null ? 0 : Math.min(100, used / worst * 100);
  const bar = el('span', { class: 'bar', role: 'img', 'aria-label': t('page.headroom') },
    el('svg', { viewBox: '0 0 100 10', preserveAspectRatio: 'none' }, el('rect', { width: share, height: 10, fill: share > 95 ? '#d9822b' : '#2a9d74' })));
  const room = o.headroom_a === null ? '–' : o.headroom_a.toFixed(1);
  const stale = o.devices.filter((x) => x.q !== 'good').length;
  const seeing = o.cameras.filter((c) => !c.fault).length;
  const link = d.link.broker === null ? [t('page.mqtt_none'), 'soft'] : d.link.connected ? ['✓ ' + t('page.mqtt_up'), 'good'] : ['✗ ' + t('page.mqtt_down'), 'bad'];
  const part = (name, words, cls = '') => el('span', {}, name + ' ', el('b', { class: cls }, words));
  const parts = [
    el('span', {}, t('page.grid') + ' ', el('b', {}, kw(o.grid_w)), ' ', bar, ' ' + t('page.free_a', { a: room })),
    part('MQTT', link[0], link[1]),
    el('span', { 'data-test': 'outbox', 'data-value': d.outbox.records }, t('page.outbox', { n: d.outbox.records })),
    part(t('page.cameras'), `${seeing}/${o.cameras.length}`, seeing < o.cameras.length ? 'bad' : 'good'),
    part(t('page.devices'), `${o.devices.length - stale}/${o.devices.length}`, stale ? 'bad' : 'good'),
  ];
  if (d.link.plaintext) parts.push(el('span', { class: 'warn' }, '⚠ ' + t('page.plaintext')));
  if (d.link.last_error && !d.link.connected) parts.push(el('span', { class: 'bad' }, d.link.last_error));
  if (d.outbox.fault) parts.push(el('span', { class: 'bad' }, d.outbox.fault));
  $('strip').replaceChildren(...parts);
}

function flow(o) {
  const ages = (kind) => Math.max(0, ...o.devices.filter((d) => d.kind === kind).map((d) => d.age_s ?? 1e9));
  const one = (key, w, into, words, seconds) => {
    const known = w !== null && w !== undefined;
    const box = el('div', { class: 'source' + (into ? '' : ' out') + (seconds > OLD_S ? ' old' : '') },
      t(`page.${key}`), el('span', { class: 'kw', 'data-test': `${key}-power`, 'data-value': known ? w : '' }, kw(known ? Math.abs(w) : null)),
      el('span', { class: 'way' }, words + (seconds === null ? '' : ' · ' + age(seconds > 1e8 ? null : seconds))));
    return box;
  };
  const g = o.grid_w ?? 0, b = o.battery_w ?? 0;
  const soc = o.soc_pct === null ? '' : ` · ${o.soc_pct.toFixed(0)} %`;
  $('flow').replaceChildren(
    one('grid', o.grid_w, g >= 0, g >= 0 ? '→ ' + t('page.importing') : '← ' + t('page.exporting'), ages('meter')),
    one('pv', o.pv_w, true, '→ ' + t('page.producing'), ages('pv')),
    one('battery', o.battery_w, b >= 0, (b >= 0 ? '→ ' + t('page.discharging') : '← ' + t('page.charging_battery')) + soc, ages('battery')),
    one('chargers', o.chargers_w, false, '← ' + t('page.consuming'), ages('charger')),
    ...(o.compute_w === null ? [] : [one('compute', o.compute_w, false, '← ' + t('page.consuming'), ages('compute'))]),
    one('other', o.other_w, false, '← ' + t('page.consuming'), ages('meter')));
}

function bays(o) {
  const state = (bay) => bay.charging && bay.state === 'occupied' ? 'charging' : bay.state;
  const stamp = Math.floor(Date.now() / 2000);
  const figure = (camera) => {
    let f = document.querySelector(`figure[data-camera="${camera.id}"]`);
    if (!f) {
      f = el('figure', { 'data-camera': camera.id }, el('div', { class: 'still' }, el('img', { alt: camera.name }), el('svg', { viewBox: '0 0 1 1', preserveAspectRatio: 'none' })), el('figcaption'));
    }
    const img = f.querySelector('img'), source = `/api/v1/cameras/${camera.id}/still.jpg?${stamp}`;
    if (camera.ts && img.getAttribute('src') !== source) img.setAttribute('src', source);
    const hatch = el('defs', {}, el('pattern', { id: 'hatch', width: .02, height: .02, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' }, el('rect', { width: .008, height: .02, fill: '#ddd' })));
    const shapes = o.bays.filter((bay) => bay.camera === camera.id).map((bay) =>
      el('polygon', { class: state(bay), 'data-bay': bay.id, points: bay.polygon.map((p) => p.join(',')).join(' ') }));
    f.querySelector('svg').replaceChildren(hatch, ...shapes);
    const fault = camera.fault ? ' · ✗ ' + t(`page.fault_${camera.fault}`) : '';
    f.querySelector('figcaption').textContent = `${camera.name} · ${age(camera.age_s)}${fault}`;
    f.classList.toggle('stale', !!camera.fault);
    return f;
  };
  const chip = (bay) => {
    const s = state(bay), mark = { free: '○', occupied: '■', charging: '⚡', unknown: '?' }[s];
    return el('span', { class: 'bay', 'data-test': `bay-${bay.id}`, 'data-value': s }, `${mark} ${bay.name}: ${t('page.bay_' + s)}`);
  };
  $('bays').replaceChildren(...o.cameras.map(figure), el('div', { class: 'list' }, ...o.bays.map(chip)));
}

function fire(o) {
  const names = ['normal', 'watch', 'alarm', 'trip'], marks = ['✓', '▲', '■', '⬣'], colours = ['good', 'warn', 'bad', 'bad'];
  const zone = (z) => el('p', { 'data-test': `zone-${z.id}`, 'data-value': z.level },
    `${t('page.zone')} ${z.id}: `, el('b', { class: colours[z.level] }, `${marks[z.level]} ${t('page.level_' + names[z.level])}`),
    z.fault ? el('span', { class: 'bad' }, ' · ✗ ' + t('page.blind')) : '');
  const camera = (c) => el('p', { class: c.fault ? 'stale' : '' }, `${c.name}: `,
    c.fault ? '✗ ' + t('page.fault_' + c.fault) : `${t('page.flame')} ${(c.fire * 100).toFixed(0)} % · ${t('page.smoke')} ${(c.smoke * 100).toFixed(0)} % · ${t('page.verdict_' + c.verdict)} · ${age(c.age_s)} · ${c.cpu_ms.toFixed(0)} ms CPU`);
  $('fire').replaceChildren(...o.zones.map(zone), ...o.cameras.map(camera));
}

function devices(o) {
  const shown = { power_w: kw, soc_pct: (v) => v.toFixed(1) + ' %', limit_a: (v) => v.toFixed(1) + ' A', vehicle: (v) => t('page.vehicle_' + v), frequency_hz: (v) => v.toFixed(2) + ' Hz', phases: (v) => t('page.phases_' + v), mode: (v) => t('mode.' + v), silence: (v) => t('page.silence_' + v) };
  const phases = (v, key, unit) => ['l1', 'l2', 'l3'].every((p) => `${key}_${p}_${unit}` in v) ? ['l1', 'l2', 'l3'].map((p) => v[`${key}_${p}_${unit}`].toFixed(1)).join(' / ') + ' ' + unit.toUpperCase() : null;
  const words = (d) => [...Object.entries(shown).filter(([k]) => k in d.values).map(([k, f]) => f(d.values[k])), phases(d.values, 'current', 'a'), phases(d.values, 'voltage', 'v')].filter(Boolean).join(' · ');
  const head = el('thead', {}, el('tr', {}, ...['device', 'kind', 'values', 'age', 'setpoint'].map((k) => el('th', {}, t('page.col_' + k)))));
  const quality = { good: ['✓', 'good'], stale: ['▲', 'warn'], bad: ['✗', 'bad'] };
  const row = (d) => el('tr', { class: d.age_s === null || d.age_s > OLD_S ? 'old' : '', 'data-test': `device-${d.kind}-${d.id}` },
    el('td', {}, el('b', {}, d.name)), el('td', {}, t('page.kind_' + d.kind)), el('td', {}, words(d)),
    el('td', { class: quality[d.q][1] }, `${quality[d.q][0]} ${t('page.q_' + d.q)} · ${age(d.age_s)}`), el('td', {}, told(d)));
  $('devices').replaceChildren(head, el('tbody', {}, ...o.devices.map(row)));
}

function draw() {
  if (!newest || !newest.overview || !ready()) return;
  const d = newest, o = d.overview;
  live_in(o.timezone);
  $('site').textContent = o.name;
  document.title = `${o.name} – wattgate`;
  const writing = o.writing ? t('page.mode_auto') : t('page.mode_observe') + (o.not_writing ? ' – ' + t('not_writing.' + o.not_writing) : '');
  $('mode').textContent = writing;
  $('mode').className = 'chip ' + (o.writing ? 'good' : 'warn');
  $('simulated').hidden = !d.simulated;
  $('clock').textContent = time(d.now) + (d.speed === 1 ? '' : ` ×${d.speed}`) + (d.speed > 5 ? ` ${t('page.accelerated')}` : '');
  strip(o, d); flow(o); bays(o); fire(o); charging(o); devices(o); alarms(o); plan(o, d.now); jobs(o);
}

function watch() {
  const late = arrived && Date.now() - arrived > LOST_MS;
  $('banner').hidden = !late;
  if (late) $('banner').textContent = t('page.lost', { s: Math.round((Date.now() - arrived) / 1000) });
  document.querySelector('main').classList.toggle('stale', !!late);
}

$('lang').addEventListener('click', () => { const next = lang === 'zh' ? 'en' : 'zh'; localStorage.setItem('lang', next); setLanguage(next); });
$('theme').addEventListener('click', () => {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  document.documentElement.dataset.theme = dark ? 'light' : 'dark';
  localStorage.setItem('theme', document.documentElement.dataset.theme);
});
if (localStorage.getItem('theme')) document.documentElement.dataset.theme = localStorage.getItem('theme');
await setLanguage(chooseLanguage());
new EventSource('/api/v1/stream').addEventListener('overview', (event) => { newest = JSON.parse(event.data); arrived = Date.now(); draw(); });
setInterval(watch, 500);
