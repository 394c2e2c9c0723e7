//! Watchdogs of chargers, each of its own kind (fed by any request, by writes, by the setpoint, by a life bit or a
//! token): fed while the gateway lives, run out in their time when it is gone. And the last step of FB10 on the
//! wire: who does not listen loses its feeder.
//!
//! What a stranger gets wrong: a gateway that is told to stop leaves everyone at the fallback and proves nothing.
//! Here it dies in the middle of its work.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use simulators::faults::Faults;
use simulators::physics::Pile;
use simulators::site::{Lone, start_lone};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use wattgate::config::{Config, Profile, ProfileKind, builtin_profiles, shipped};
use wattgate::io::clock::Clock;
use wattgate::io::modbus::{self, Wiring};
use wattgate::logic::decision::{Decision, Duty};
use wattgate::logic::safety::interlock;
use wattgate::logic::site::{ChargerSetpoint, Reason, Setpoints};
use wattgate::units::Amps;

use super::rig::{self, Rig};
use crate::gateway::{PATIENCE, now, until};

/// Site time runs so fast: the longest watchdog has a minute.
const SPEED: f64 = 4.0;
/// What everyone is told, and what everyone falls back to, A.
const TOLD: f64 = 12.0;
const SAFE: f64 = 6.0;

/// Wall time of so much site time.
fn wall(site_s: f64) -> Duration {
    Duration::from_secs_f64(site_s / SPEED)
}

fn pile<T>(lone: &Lone, look: impl FnOnce(&Pile) -> T) -> T {
    lone.shared().with(|world| look(&world.piles[0]))
}

/// A site with these chargers, one line each.
fn site_of(chargers: &BTreeMap<String, Lone>) -> Config {
    let mut text = String::from(
        "[site]\nid = 'dogs'\n[grid]\nmeter = 'grid'\nlimit_a = 2000\nbreaker_a = 2000\n\
         [[device]]\nid = 'grid'\nprofile = 'eastron-sdm630'\naddress = 'tcp://127.0.0.1:1'\n",
    );
    for (id, lone) in chargers {
        let at = lone.address;
        text += &format!(
            "[[device]]\nid = '{id}'\nprofile = '{id}'\naddress = 'tcp://{at}'\nmax_a = 32\nfailsafe_a = 6\n"
        );
    }
    rig::checked(&text)
}

/// Everyone is told the same, as long as the sender lives.
fn decide(config: &Config, clock: Clock) -> Arc<Decision> {
    let mut wishes = Setpoints::default();
    for charger in &config.site.chargers {
        let wish = (ChargerSetpoint::Current(Amps(TOLD)), Reason::DeviceMaximum);
        wishes.chargers.insert(charger.id.clone(), wish);
    }
    let permitted = interlock::permit(&config.site, wishes, &BTreeMap::new());
    let (at, duty) = (clock.now(), Duty::default());
    Arc::new(Decision { sequence: 1, at, writing: true, permitted, duty, errands: Vec::new() })
}

/// When each of them fell back, after `since`; nobody may hold its setpoint for longer than `most`.
fn falls(
    chargers: &BTreeMap<String, Lone>,
    since: Instant,
    most: Duration,
) -> BTreeMap<String, Duration> {
    let mut fallen = BTreeMap::new();
    until("all of them at their failsafe", most, || {
        for (id, lone) in chargers {
            if pile(lone, Pile::limit_a) <= SAFE + 0.05 {
                fallen.entry(id.clone()).or_insert_with(|| since.elapsed());
            }
        }
        (fallen.len() == chargers.len()).then_some(())
    });
    fallen
}

#[test]
fn every_watchdog_is_fed_while_the_gateway_lives_and_runs_out_in_its_time_when_it_dies() {
    let expires = |profile: &Profile| profile.setpoint.as_ref().and_then(|recipe| recipe.expires_s);
    let mut profiles = builtin_profiles();
    profiles.retain(|_, profile| {
        profile.kind == ProfileKind::Charger && expires(profile).is_some_and(|s| s <= 60.0)
    });
    let runtime = Runtime::new().unwrap();
    let anywhere = ([127, 0, 0, 1], 0).into();
    let serve = |id: &String| {
        let text = &shipped()[&format!("{id}.toml")];
        let profile = simulators::profile::Profile::parse(id, text).unwrap();
        (id.clone(), runtime.block_on(start_lone(profile, anywhere, (1, SPEED))).unwrap())
    };
    let chargers: BTreeMap<String, Lone> = profiles.keys().map(serve).collect();
    assert!(chargers.len() >= 8, "only {} watchdogs", chargers.len());
    let config = site_of(&chargers);
    let clock = Clock::simulated(SPEED, None);
    let (observations, inbox) = sync_channel(4096);
    let (decisions, newest) = watch::channel(None);
    let (_shutdown, stopped) = watch::channel(false);
    let wiring = Wiring {
        fieldbus: config.fieldbus.clone(),
        site: Arc::new(config.site.clone()),
        clock,
        observations,
        decisions: newest,
        writes: watch::Sender::default(),
        shutdown: stopped,
    };
    std::thread::spawn(move || inbox.into_iter().for_each(drop));
    let gateway = Runtime::new().unwrap();
    let _tasks = gateway.block_on(async { modbus::start(&config.devices, &wiring) });
    let tell = || decisions.send_replace(Some(decide(&config, clock)));
    let holds = |lone: &Lone| (pile(lone, Pile::limit_a) - TOLD).abs() <= 0.1;
    until("everyone told", PATIENCE, || {
        tell();
        chargers.values().all(holds).then_some(())
    });
    // Longer than the longest of them lives unfed.
    let alive = now();
    while alive.elapsed() < wall(66.0) {
        tell();
        for (id, lone) in &chargers {
            assert!(holds(lone), "{id}: not fed {:?} long", alive.elapsed());
        }
        std::thread::park_timeout(wall(0.5));
    }
    gateway.shutdown_background();
    let died = now();
    let fallen = falls(&chargers, died, wall(70.0));
    for (id, took) in &fallen {
        // The failsafe time that was written counts where there is one.
        let profile = &profiles[id];
        let written = profile.failsafe.as_ref().map(|failsafe| failsafe.after_s);
        let within = written.or(expires(profile)).unwrap();
        let took = took.as_secs_f64() * SPEED;
        println!("{id}: fell back {took:.1} s after the gateway died, of {within} s");
        // It was fed within a third of its time, and the processor is shared.
        assert!(took <= within + 4.0, "{id}: {took:.1} s of {within} s");
        assert!(took >= within * 0.5 - 2.0, "{id}: {took:.1} s of {within} s: it was not fed");
    }
}

#[test]
fn fb10_a_charger_that_ignores_its_setpoint_loses_its_feeder_on_the_wire() {
    let (runtime, sim) = rig::devices("guarded_store");
    let module = sim.addresses().module.unwrap();
    let text = format!(
        "{}[[device]]\nid = \"module\"\nprofile = \"io-module\"\naddress = \"tcp://{module}\"\n\
         [[zone]]\nid = \"yard\"\nchargers = [\"pile1\", \"pile2\"]\n\
         [[relay]]\nid = \"feeder\"\nkind = \"feeder\"\nzones = [\"yard\"]\ndevice = \"module\"\n\
         output = \"do2\"\nacts = \"released\"\nfeedback = \"di7\"\n",
        rig::site_file(sim.addresses())
    );
    let rig = Rig::start((runtime, sim), rig::checked(&text), true);
    let drawn = || rig.sim.shared().with(|world| world.piles[0].current_a);
    let powered = || rig.sim.shared().with(|world| world.module.as_ref().unwrap().piles_powered());
    until("a charging car", Duration::from_secs(60), || (drawn() > 7.0).then_some(()));
    assert!(powered());
    rig.faults("pile1", Faults { ignores_setpoint: true, ..Faults::default() });
    let told = || rig.held(0);
    until("more than it was told", PATIENCE, || (drawn() > told() + 2.0).then_some(()));
    let began = now();
    until("the feeder open", Duration::from_secs(40), || (!powered()).then_some(()));
    let took = began.elapsed();
    println!("feeder open {took:?} after it drew more than it was told");
    assert!(took >= Duration::from_secs(17), "a car that comes down late is not cut off: {took:?}");
    // 20 s, a reading, a decision, and the processor is shared.
    assert!(took <= Duration::from_secs(24), "{took:?}");
    until("no current", PATIENCE, || (drawn() == 0.0).then_some(()));
    until("the alarm", PATIENCE, || {
        rig.alarms().iter().any(|alarm| alarm.starts_with("feeder_opened")).then_some(())
    });
}
