// Alarms: the worst in one line at the top, all of them below, and the dialog in which a person says that
// they know. Opening the page acknowledges nothing; the code that was printed at start is asked each time.
import { $, el, lang, moment, t } from './words.js';

const MARKS = { warning: '▲', alarm: '■', trip: '⬣' };
let drawn = '', asked = null;

const words = (a) => t(`alarm.${a.code}`, { about: a.about });

function worst(alarms) {
  const open = alarms.filter((a) => !a.acknowledged || (a.active && a.severity !== 'warning'));
  $('worst').hidden = open.length === 0;
  if (open.length === 0) return;
  const a = open[0];
  const more = open.length > 1 ? ` (+${open.length - 1})` : '';
  $('worst').className = a.severity === 'warning' ? 'warn' : 'bad';
  $('worst').textContent = `${MARKS[a.severity]} ${words(a)}${more}`;
}

function row(a) {
  const state = t(a.active ? 'page.alarm_active' : 'page.alarm_cleared', { at: moment(a.active ? a.since : a.cleared) });
  const known = a.acknowledged ? t('page.alarm_known', { by: a.by ?? '–' }) + (a.note ? ` – ${a.note}` : '') : '';
  const item = el('li', { 'data-test': `alarm-${a.id}`, 'data-value': a.acknowledged ? 'known' : 'open' },
    el('b', { class: a.severity === 'warning' ? 'warn' : 'bad' }, `${MARKS[a.severity]} ${t('page.severity_' + a.severity)}`),
    ` ${words(a)} `, el('span', { class: 'soft' }, `${state} ${known}`));
  if (!a.acknowledged) {
    const button = el('button', { type: 'button' }, t('page.acknowledge'));
    button.addEventListener('click', () => ask(a));
    item.append(' ', button);
  }
  return item;
}

export function alarms(o) {
  const key = lang + JSON.stringify(o.alarms);
  if (key === drawn) return;      // so that a button keeps its focus
  drawn = key;
  worst(o.alarms);
  $('alarms').replaceChildren(...(o.alarms.length ? o.alarms.map(row) : [el('li', { class: 'good' }, '✓ ' + t('page.no_alarms'))]));
}

function ask(a) {
  asked = a.id;
  $('ack-what').textContent = words(a);
  for (const [id, key] of [['ack-name-label', 'name'], ['ack-note-label', 'note'], ['ack-code-label', 'code'], ['ack-send', 'acknowledge'], ['ack-cancel', 'cancel']]) $(id).textContent = t('page.' + key);
  $('ack-name').value = sessionStorage.getItem('name') ?? '';
  $('ack-code').value = $('ack-note').value = $('ack-answer').textContent = '';
  $('ack').showModal();
}

$('ack-cancel').addEventListener('click', () => $('ack').close());
$('ack').querySelector('form').addEventListener('submit', async (event) => {
  event.preventDefault();
  const name = $('ack-name').value.trim();
  sessionStorage.setItem('name', name);
  const answer = await fetch(`/api/v1/alarms/${encodeURIComponent(asked)}/acknowledge`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-wattgate-code': $('ack-code').value.trim() },
    body: JSON.stringify({ name, note: $('ack-note').value.trim() || null }),
  }).catch(() => null);
  if (answer?.status === 204) $('ack').close();
  else $('ack-answer').textContent = answer ? t(`page.answer_${answer.status}`) : t('page.answer_none');
});
