//! The limit of an inverter's output on the wire: told, renewed before the inverter forgets it, told again after
//! a restart, and kept by the field bus when nobody decides any more.
//!
//! What a stranger gets wrong: the simulated inverter is free again by itself half a minute after the last write.

use std::time::{Duration, Instant};

use simulators::faults::Faults;

use super::rig::{self, Rig};
use crate::gateway::{now, until};
use wattgate::logic::observation::Finding;

const PATIENCE: Duration = Duration::from_secs(30);

/// Meter and inverter alone; nothing may be exported.
fn rig(thinks: bool) -> Rig {
    let (runtime, sim) = rig::devices("sunny_day");
    let addresses = simulators::site::Addresses { piles: Vec::new(), ..sim.addresses().clone() };
    let text = rig::site_file(&addresses).replace("[grid]\n", "[grid]\nexport_limit_w = 0\n")
        + &format!(
            "[[device]]\nid = \"hybrid\"\nprofile = \"sunspec-hybrid\"\n\
             address = \"tcp://{}\"\nrated_w = 20000\n",
            addresses.hybrid
        );
    sim.shared().with(|world| {
        world.set_building(Some(1_000.0));
        world.set_pv(Some(9_000.0));
        let bays: Vec<String> = world.bays.iter().map(|bay| bay.id.clone()).collect();
        bays.iter().for_each(|bay| _ = world.set_plugged(bay, Some(false)));
    });
    Rig::start((runtime, sim), rig::checked(&text), thinks)
}

/// What is exported in truth, W.
fn exported(rig: &Rig) -> f64 {
    rig.sim.shared().with(|world| -world.grid_phases_w().iter().sum::<f64>())
}

#[test]
fn an_inverter_is_told_its_limit_and_told_again_before_it_forgets_and_after_a_restart() {
    let rig = rig(true);
    until("no export", PATIENCE, || (exported(&rig) < 200.0).then_some(()));
    // Longer than the inverter remembers.
    let began = now();
    let mut over: Option<Instant> = None;
    until("forty seconds without export", Duration::from_secs(60), || {
        let too_much = exported(&rig) > 300.0;
        over = too_much.then(|| over.unwrap_or_else(now));
        assert!(over.is_none_or(|since| since.elapsed() < Duration::from_secs(6)), "exports");
        (began.elapsed() > Duration::from_secs(40)).then_some(())
    });
    let told = rig.overview().and_then(|overview| {
        let device = overview.devices.into_iter().find(|device| device.kind == "pv");
        device.and_then(|device| device.setpoint)
    });
    let told = told.unwrap();
    assert_eq!(told.reason, "export_limit");
    let given = rig.sim.shared().with(|world| world.hybrid.ac_w());
    assert!(given < 6_000.0, "{given} W of 9 kW of sun: nothing is curtailed");
    assert!(told.power_w.is_some_and(|watts| (watts - given).abs() < 400.0), "{told:?}, {given}");
    rig.faults("hybrid", Faults { reboot: true, ..Faults::default() });
    let restarted = now();
    assert!(rig.sim.shared().with(|world| !world.hybrid.limit.enabled), "a restart forgets");
    until("told again", Duration::from_secs(6), || {
        rig.sim.shared().with(|world| world.hybrid.limit.enabled.then_some(()))
    });
    println!("limited again {:?} after a restart", restarted.elapsed());
    until("no export again", Duration::from_secs(10), || (exported(&rig) < 200.0).then_some(()));
}

#[test]
fn when_nobody_decides_any_more_the_field_bus_lets_no_more_out_than_may_be_exported() {
    let rig = rig(false);
    rig.answered("hybrid", now(), PATIENCE);
    // By hand nothing is said of inverters: that is the interlock's answer for what was left out.
    rig.tell(&[]);
    let limit = || rig.sim.shared().with(|world| world.hybrid.limit);
    until("the limit", PATIENCE, || (limit().enabled && limit().share == 0).then_some(()));
    rig.fall_silent();
    let began = now();
    until("forty seconds of silence", Duration::from_secs(60), || {
        assert!(limit().enabled && limit().share == 0, "{:?}", limit());
        (began.elapsed() > Duration::from_secs(40)).then_some(())
    });
}

#[test]
fn an_inverter_that_leaves_its_limit_unanswered_is_read_all_the_same_and_told_of() {
    let rig = rig(false);
    rig.answered("hybrid", now(), PATIENCE);
    rig.faults("hybrid", Faults { write_silent: true, ..Faults::default() });
    let began = now();
    rig.tell(&[]);
    rig.found("hybrid", (Finding::Misconfigured, true), began, PATIENCE);
    until("twenty seconds", PATIENCE, || (began.elapsed() > Duration::from_secs(20)).then_some(()));
    let times = rig.readings("hybrid", began).into_iter().map(|(at, _)| at).chain([now()]);
    let mut last = began;
    for at in times {
        assert!(
            at - last < Duration::from_secs(5),
            "unread for {:?}: it counts as silent",
            at - last
        );
        last = at;
    }
}

#[test]
fn fb14_a_limit_that_somebody_else_moved_is_seen_and_told_again() {
    let rig = rig(false);
    rig.answered("hybrid", now(), PATIENCE);
    rig.tell(&[]);
    let limit = || rig.sim.shared().with(|world| world.hybrid.limit);
    until("the limit", PATIENCE, || (limit().enabled && limit().share == 0).then_some(()));
    // Another master that lifts it: it is told again.
    let began = now();
    let lift = || rig.sim.shared().with(|world| world.hybrid.limit.share = 3_000);
    lift();
    rig.found("hybrid", (Finding::ForeignWriter, true), began, PATIENCE);
    until("ours again", PATIENCE, || (limit().share == 0).then_some(()));
}
