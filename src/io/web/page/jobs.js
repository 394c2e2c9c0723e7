// Computing jobs: what each does, why, and by what it is held; and what workloads and cameras have taken in this hour
// and day of UTC, beside the budget.
import { $, el, t } from './words.js';

const wh = (v) => v === null || v === undefined ? '–' : v.toFixed(v < 10 ? 3 : 1) + ' Wh';

function job(j) {
  const known = [`${j.power_w.toFixed(1)} W`, wh(j.energy_wh), j.method && t('method.' + j.method), j.held_by && t('held.' + j.held_by),
    j.due && t('page.job_late', { due: new Date(j.due).toLocaleString() })];
  return el('li', { 'data-test': `job-${j.id}`, 'data-value': j.state },
    el('b', {}, j.name), ` ${j.id} `, el('span', { class: 'chip' }, t('page.job_' + j.state)), ' ', t('job.' + j.why), ' ',
    el('span', { class: 'soft' }, known.filter(Boolean).join(' · ')), j.trouble ? el('span', { class: 'bad' }, ' ' + j.trouble) : '');
}

export function jobs(o) {
  const { workloads, cameras } = o.ledger, b = o.job_budget;
  const name = (id) => o.cameras.find((c) => c.id === id)?.name ?? id;
  const rows = [...Object.entries(workloads).map(([id, e]) => [t('page.energy_workload', { id }), e]), ...Object.entries(cameras).map(([id, e]) => [t('page.energy_camera', { id: name(id) }), e])];
  $('jobs-card').hidden = !b && rows.length === 0;
  if ($('jobs-card').hidden) return;
  $('jobs').replaceChildren(...(o.jobs.length ? [...o.jobs].reverse().map(job) : [el('li', {}, t('page.no_jobs'))]));
  const line = (cells, kind = 'td') => el('tr', {}, ...cells.map((c) => el(kind, {}, c)));
  const bound = (spent, most) => most === null ? wh(spent) : `${wh(spent)} / ${wh(most)}`;
  const all = b ? [line([t('page.energy_jobs'), bound(b.hour_wh, b.per_hour_wh), bound(b.day_wh, b.per_day_wh), ''])] : [];
  $('energy').replaceChildren(el('table', {}, el('thead', {}, line(['what', 'hour', 'day', 'all'].map((k) => t('page.energy_' + k)), 'th')),
    el('tbody', {}, ...all, ...rows.map(([what, e]) => line([what, wh(e.hour_wh), wh(e.day_wh), wh(e.all_wh)])))));
}
