//! Who may release what: two steps by one person of the right role, never while a cause holds, and what is
//! remembered when the power goes between.

use wattgate::logic::controller::Controller;
use wattgate::logic::observation::Observation;
use wattgate::logic::safety::fire::{Level, ResetObstacle};
use wattgate::logic::site::{RelaySetpoint, Roles};

use super::{Rig, id, site};

impl Rig {
    pub fn ask(&mut self, by: &str, inspected: bool) {
        let (zone, by, at) = (id("store"), by.to_owned(), self.now);
        self.controller.observe(Observation::ResetAsked { zone, by, inspected, at });
        self.second();
    }

    pub fn prove(&mut self, sensor: &str) {
        let (by, at) = ("Li".to_owned(), self.now);
        self.controller.observe(Observation::Proven { id: id(sensor), by, at });
    }

    /// The power goes and comes back; nothing is kept but what was latched.
    pub fn power_cut(&mut self) {
        let latched = self.controller.latched();
        let latched = serde_json::from_slice(&serde_json::to_vec(&latched).unwrap()).unwrap();
        let mut controller = Controller::new(self.controller.site().clone(), self.now);
        controller.remember(&latched, self.now);
        self.controller = controller;
        self.second();
    }
}

fn with_roles() -> Rig {
    let mut site = site::guarded();
    let names = |name: &str| vec![name.to_owned()];
    site.guard.roles = Roles { operators: names("Li"), safety: names("Wang") };
    Rig::of(site)
}

#[test]
fn an_operator_releases_an_alarm_in_two_steps() {
    let mut rig = with_roles();
    rig.set("smoke", 1.0);
    rig.run(2);
    rig.ask("Li", false);
    rig.set("smoke", 0.0);
    rig.run(300);
    rig.ask("Li", true);
    assert_eq!(rig.level(), Level::Alarm);
    assert_eq!(rig.zone().reset_obstacle, Some(ResetObstacle::NotClearLongEnough));
    rig.run(320);
    assert_eq!(rig.zone().reset_obstacle, None);
    rig.ask("Wang", true);
    assert_eq!(rig.level(), Level::Alarm, "Wang has not begun");
    rig.ask("Zhao", false);
    assert_eq!(rig.zone().reset_begun_by.as_deref(), Some("Li"), "Zhao has no role");
    rig.ask("Li", true);
    assert_eq!(rig.level(), Level::Normal);
    assert_eq!(rig.zone().reset_by.as_deref(), Some("Li"));
}

#[test]
fn a_trip_needs_the_safety_role_and_survives_a_power_cut_with_its_contactor_open() {
    let mut rig = with_roles();
    rig.set("stop_closed", 0.0);
    rig.second();
    assert_eq!(rig.relay("contactor"), RelaySetpoint::Act);
    rig.set("stop_closed", 1.0);
    rig.power_cut();
    assert_eq!(rig.level(), Level::Trip);
    assert_eq!(rig.relay("contactor"), RelaySetpoint::Act, "it does not close again by itself");
    rig.run(700);
    rig.ask("Li", false);
    rig.ask("Li", true);
    assert_eq!(rig.level(), Level::Trip, "an operator may not");
    rig.ask("Wang", false);
    rig.ask("Wang", true);
    assert_eq!(rig.level(), Level::Normal);
    assert_eq!(rig.relay("contactor"), RelaySetpoint::Rest);
}

#[test]
fn nothing_is_released_while_its_cause_holds_or_a_sensor_is_at_fault() {
    let mut rig = Rig::new();
    rig.set("heat", 1.0);
    rig.run(1200);
    rig.ask("Li", false);
    rig.ask("Li", true);
    assert_eq!(rig.zone().reset_obstacle, Some(ResetObstacle::StillSeen));
    rig.set("heat", 0.0);
    rig.set("gas1", 0.0);
    rig.run(1200);
    rig.ask("Li", true);
    assert_eq!(rig.level(), Level::Alarm);
    assert_eq!(rig.zone().reset_obstacle, Some(ResetObstacle::SensorFault));
    rig.silent.insert("cam");
    rig.run(6);
    assert_eq!(rig.zone().reset_obstacle, Some(ResetObstacle::Blind));
}

#[test]
fn the_second_step_comes_within_an_hour_of_the_first() {
    let mut rig = Rig::new();
    rig.set("smoke", 1.0);
    rig.run(2);
    rig.set("smoke", 0.0);
    rig.ask("Li", false);
    rig.run(3601);
    rig.ask("Li", true);
    assert_eq!(rig.level(), Level::Alarm);
    rig.ask("Li", false);
    rig.ask("Li", true);
    assert_eq!(rig.level(), Level::Normal);
}

#[test]
fn an_opened_feeder_is_remembered() {
    let mut rig = Rig::new();
    rig.run(60);
    rig.deaf = true;
    rig.set("smoke", 1.0);
    rig.run(20);
    assert_eq!(rig.relay("feeder"), RelaySetpoint::Act);
    rig.set("smoke", 0.0);
    rig.power_cut();
    assert_eq!(rig.relay("feeder"), RelaySetpoint::Act);
}

#[test]
fn a_reset_zone_whose_watch_sign_still_holds_is_on_watch() {
    let mut rig = Rig::new();
    rig.set("smoke", 1.0);
    rig.run(2);
    rig.set("smoke", 0.0);
    rig.set("insulation", 1.0);
    rig.run(700);
    rig.ask("Li", false);
    rig.ask("Li", true);
    rig.second();
    assert_eq!(rig.level(), Level::Watch);
}
