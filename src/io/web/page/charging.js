// How each charger charges: its mode, what it is told and why, and the dialog in which a person chooses another.
// What is shown is what the controller has taken; a mode that was asked for is shown as asked until it has. The
// code that was printed at start is asked each time.
import { $, answer, el, lang, moment, t, told } from './words.js';

const MODES = ['off', 'pv_only', 'min_pv', 'fast', 'departure'];
const rows = new Map();     // kept, so that a button keeps its focus
let spoken = '', chosen = null;

function row(id) {
  const name = el('b'), mode = el('span', { class: 'chip' }), asked = el('span', { class: 'warn' }), what = el('span', { class: 'soft' });
  const button = el('button', { type: 'button', 'data-test': `change-${id}` });
  const item = el('li', { 'data-test': `charging-${id}` }, name, ' ', mode, ' ', asked, ' ', what, ' ', button);
  const made = { item, name, mode, asked, what, button, wish: null, device: null };
  button.addEventListener('click', () => open(made));
  return made;
}

export function charging(o) {
  const chargers = o.devices.filter((d) => d.kind === 'charger');
  const ids = lang + JSON.stringify(chargers.map((d) => d.id));
  if (spoken !== ids) {
    spoken = ids;
    rows.clear();
    for (const d of chargers) rows.set(d.id, row(d.id));
    $('charging').replaceChildren(...(rows.size ? [...rows.values()].map((r) => r.item) : [el('li', {}, t('page.no_chargers'))]));
  }
  for (const d of chargers) draw(rows.get(d.id), d, o.plan?.lanes.find((l) => l.id === d.id)?.target);
}

function draw(r, d, target) {
  r.device = d;
  if (r.wish === d.values.mode) r.wish = null;
  r.name.textContent = d.name;
  r.mode.textContent = t('mode.' + d.values.mode);
  r.item.dataset.value = d.values.mode;
  r.item.dataset.reason = d.setpoint?.reason ?? '';
  r.asked.textContent = r.wish ? t('page.charging_asked', { mode: t('mode.' + r.wish) }) : '';
  r.button.textContent = t('page.charging_change');
  const vehicle = d.values.vehicle ? t('page.vehicle_' + d.values.vehicle) : '–';
  const planned = target ? ' ' + t('page.plan_target', { kwh: (target.energy_wh / 1000).toFixed(1), by: moment(target.by) }) : '';
  r.what.textContent = t('page.charging_line', { vehicle, told: told(d) || '–' }) + planned;
}

/** What a car needs by when belongs to one mode only. */
const ask_for_target = () => { $('charge-target').hidden = $('charge-mode').value !== 'departure'; };

function open(r) {
  chosen = r;
  for (const [id, key] of [['charge-energy-label', 'charging_energy'], ['charge-stay-label', 'charging_stay'], ['charge-hint', 'charging_hint'], ['charge-code-label', 'code'], ['charge-send', 'charging_send'], ['charge-cancel', 'cancel']]) $(id).textContent = t('page.' + key);
  $('charge-what').textContent = t('page.charging_mode', { name: r.device.name });
  $('charge-mode').setAttribute('aria-label', $('charge-what').textContent);
  $('charge-mode').replaceChildren(...MODES.map((m) => el('option', { value: m }, t('mode.' + m))));
  $('charge-mode').value = r.device.values.mode;
  $('charge-energy').value = $('charge-stay').value = $('charge-code').value = $('charge-answer').textContent = '';
  ask_for_target();
  $('charge').showModal();
}

function post(what, body) {
  const headers = { 'content-type': 'application/json', 'x-wattgate-code': $('charge-code').value.trim() };
  return fetch(`/api/v1/chargers/${encodeURIComponent(chosen.device.id)}/${what}`, { method: 'POST', headers, body: JSON.stringify(body) }).catch(() => null);
}

async function send() {
  const mode = $('charge-mode').value, energy = $('charge-energy').value, stay = $('charge-stay').value;
  if (mode === 'departure' && (energy !== '' || stay !== '')) {
    const number = (text) => text === '' ? null : Number(text);
    const taken = await post('target', { energy_kwh: number(energy), stay_h: number(stay) });
    if (!taken?.ok) return taken;
  }
  chosen.wish = mode;
  const taken = await post('mode', { mode });
  if (!taken?.ok) chosen.wish = null;
  return taken;
}

$('charge-mode').addEventListener('change', ask_for_target);
$('charge-cancel').addEventListener('click', () => $('charge').close());
$('charge').querySelector('form').addEventListener('submit', async (event) => {
  event.preventDefault();
  const taken = await send();
  if (taken?.ok) $('charge').close();
  else $('charge-answer').textContent = answer(taken, 'charging');
});
