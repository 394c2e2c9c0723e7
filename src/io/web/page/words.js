// Words, elements and numbers of the page. Every word comes from the text table; a number is never shown
// without its unit.
const SVG = ['svg', 'polygon', 'polyline', 'text', 'defs', 'pattern', 'path', 'rect', 'line', 'title', 'g'];
let texts = {};
export let lang = 'en';

export async function speak(wanted) {
  lang = wanted;
  texts = await (await fetch(`/assets/texts/${lang}.json`)).json();
}
export const ready = () => 'page.flow' in texts;
export const $ = (id) => document.getElementById(id);
export const t = (key, values = {}) => Object.entries(values).reduce((s, [k, v]) => s.replaceAll(`{${k}}`, v), texts[key] ?? `⟦${key}⟧`);
export const el = (name, attributes = {}, ...children) => {
  const e = document.createElementNS(SVG.includes(name) ? 'http://www.w3.org/2000/svg' : 'http://www.w3.org/1999/xhtml', name);
  for (const [k, v] of Object.entries(attributes)) if (v !== null && v !== undefined) e.setAttribute(k, v);
  e.append(...children);
  return e;
};
export const kw = (w) => w === null || w === undefined ? '–' : (w / 1000).toFixed(2) + ' kW';
export const age = (s) => s === null || s === undefined ? t('page.never') : s < 60 ? t('page.age_s', { s: s.toFixed(s < 10 ? 1 : 0) }) : t('page.age_min', { min: Math.round(s / 60) });
// Times are the site's, not the reader's.
let zone;
export const live_in = (name) => { zone = name ?? undefined; };
const locale = () => lang === 'zh' ? 'zh-CN' : 'en-GB';
export const clock = (ts) => new Date(ts).toLocaleTimeString(locale(), { hour: '2-digit', minute: '2-digit', timeZone: zone });
export const moment = (ts) => new Date(ts).toLocaleString(locale(), { month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit', timeZone: zone });
export const time = (ts) => new Date(ts).toLocaleTimeString(locale(), { timeZone: zone });
/** What a device is told, and why. */
export const told = (d) => {
  if (!d.setpoint) return '';
  const what = d.setpoint.current_a !== null ? (d.setpoint.current_a > 0 ? d.setpoint.current_a.toFixed(1) + ' A' : t('page.paused')) : kw(d.setpoint.power_w);
  return `${what} — ${t('reason.' + d.setpoint.reason)}${d.setpoint.about ? ' (' + d.setpoint.about + ')' : ''}`;
};
/** What an answer that is no yes means; some words are those of a dialog. */
export const answer = (given, dialog) => !given ? t('page.answer_none') : [400, 404, 422].includes(given.status) ? t(`page.${dialog}_${given.status === 404 ? 404 : 400}`) : t(`page.answer_${given.status}`);
