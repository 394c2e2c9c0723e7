//! The caching server beyond one meter: whom it lets in, and what it has of devices whose models are walked.

use std::net::TcpListener;
use std::time::Duration;

use wattgate::config::{Address, Table};
use wattgate::io::modbus::{Bus, BusError, Pace};

use super::rig::{self, Rig};
use crate::gateway::{PATIENCE, now};

const PACE: Pace =
    Pace { connect: Duration::from_secs(2), call: Duration::from_secs(2), gap: Duration::ZERO };

/// A rig whose hybrid inverter is served as unit 21, and where that is.
fn served(more: &str) -> (Rig, Address) {
    let (runtime, sim) = rig::devices("sunny_day");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "{}[[device]]\nid = \"hybrid\"\nprofile = \"sunspec-hybrid\"\naddress = \"tcp://{}\"\nserve_as = 21\n\
         max_charge_w = 10000\nmax_discharge_w = 10000\n\
         [modbus_server]\nlisten = \"127.0.0.1:{port}\"\nmax_age_s = 30\n{more}",
        rig::site_file(sim.addresses()),
        sim.addresses().hybrid
    );
    let rig = Rig::start((runtime, sim), rig::checked(&text), false);
    rig.answered("hybrid", now(), PATIENCE);
    (rig, Address::Tcp { host: "127.0.0.1".into(), port })
}

#[test]
fn a_walked_device_is_shared_model_by_model() {
    let (rig, server) = served("");
    let at = rig.sim.addresses().hybrid;
    let device = Address::Tcp { host: at.ip().to_string(), port: at.port() };
    rig.runtime().block_on(async {
        let (mut ours, mut theirs) = (Bus::new(server), Bus::new(device));
        let (mut address, mut found) = (40_002, Vec::new());
        while let Ok(head) = theirs.read(1, Table::Holding, (address, 2), PACE).await
            && head[0] != 0xFFFF
        {
            if let Ok(served) = ours.read(21, Table::Holding, (address, 2), PACE).await {
                assert_eq!(served, head, "model {}", head[0]);
                found.push(head[0]);
            }
            address += head[1] + 2;
        }
        assert_eq!(found, [103, 124, 160, 802]);
    });
}

#[test]
fn sec6_who_is_not_in_the_list_of_the_caching_server_is_not_answered() {
    for (allow, lets_in) in [("127.0.0.0/8", true), ("127.0.0.2", false)] {
        let (rig, server) = served(&format!("allow = [\"{allow}\"]\n"));
        let read = rig
            .runtime()
            .block_on(async { Bus::new(server).read(21, Table::Holding, (0, 2), PACE).await });
        match read {
            // It is answered, if only with an exception.
            Err(BusError::Exception(_)) => assert!(lets_in, "{allow} let 127.0.0.1 in"),
            other => assert!(!lets_in, "{allow}: {other:?}"),
        }
    }
}
