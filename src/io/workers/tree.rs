//! The processes below one process, and the CPU time they have used.
//!
//! What a stranger gets wrong: CPU time of a process that was waited for moves to its parent. Counted is
//! what lives, what each has waited for, and what the ancestor itself has waited for; so nothing is lost
//! and nothing counted twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Ticks of `/proc/<pid>/stat` in a second: USER_HZ, 100 on every architecture Linux runs on today.
const TICKS: f64 = 100.0;

/// One process.
#[derive(Clone, Copy, Debug)]
struct Stat {
    parent: i32,
    zombie: bool,
    own_ticks: u64,
    waited_ticks: u64,
}

/// All that descends from one process.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Those that live, without the ancestor.
    pub living: Vec<i32>,
    /// CPU time of all of them since they began, s.
    pub cpu_s: f64,
}

/// What descends from `ancestor` now.
#[must_use]
pub fn below(ancestor: i32) -> Tree {
    let all = all();
    let mut tree = Tree::default();
    let mut inside = BTreeSet::from([ancestor]);
    // Children may have lower numbers than their parents: until nothing more is found.
    loop {
        let found = all
            .iter()
            .filter(|(pid, stat)| inside.contains(&stat.parent) && !inside.contains(*pid));
        let found: Vec<i32> = found.map(|(pid, _)| *pid).collect();
        if found.is_empty() {
            break;
        }
        inside.extend(found);
    }
    let mut ticks = all.get(&ancestor).map_or(0, |stat| stat.waited_ticks);
    for pid in inside.into_iter().filter(|pid| *pid != ancestor) {
        let Some(stat) = all.get(&pid) else { continue };
        ticks += stat.own_ticks + stat.waited_ticks;
        if !stat.zombie {
            tree.living.push(pid);
        }
    }
    tree.cpu_s = ticks as f64 / TICKS;
    tree
}

fn all() -> BTreeMap<i32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        Some((pid, parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?))
    })
    .collect()
}

/// Fields of `proc(5)`; the name in parentheses may hold anything.
fn parse(text: &str) -> Option<Stat> {
    let rest = text.get(text.rfind(')')? + 2..)?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |i: usize| fields.get(i)?.parse::<u64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        zombie: matches!(*fields.first()?, "Z" | "X"),
        own_ticks: number(11)? + number(12)?,
        waited_ticks: number(13)? + number(14)?,
    })
}

/// CPU time that all processors together have spent on anything since boot, s.
#[must_use]
pub fn busy_s() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<f64> =
        line.split_ascii_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, then idle and iowait, then irq and softirq.
    [0, 1, 2, 5, 6].iter().filter_map(|i| ticks.get(*i)).sum::<f64>() / TICKS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_blanks_is_read() {
        let text = "42 (a) b (c)) S 7 42 42 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0 5 6 7";
        let stat = parse(text).unwrap();
        assert_eq!((stat.parent, stat.own_ticks, stat.waited_ticks), (7, 30, 70));
        assert!(parse("42 (x").is_none());
    }
}
