//! The simulated drivers: each tells the gateway over MQTT, as an app would, what the car needs and when
//! it leaves, until the gateway has understood, and again every ten minutes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::{AsyncClient, Event, Incoming, MqttOptions};
use serde_json::{Value, json};
use simulators::site::Shared;

/// How often the drivers look whether there is something to say, wall time.
const LOOKS_EVERY: Duration = Duration::from_millis(200);
/// Site time after which they say it again, s: not understood yet, and as a habit.
const INSISTS_S: f64 = 60.0;
const REPEATS_S: f64 = 600.0;
/// Wall time between two tries to reach the broker.
const RETRY: Duration = Duration::from_secs(1);

/// What one driver said last.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    leaves_s: f64,
    at_s: f64,
    understood: bool,
}

fn topic(pile: &str) -> String {
    format!("wattgate/v1/demo/charger/{pile}/cmd/target")
}

/// Talks for ever.
pub async fn talk(world: Arc<Shared>, broker: u16) {
    let mut options = MqttOptions::new("drivers", "127.0.0.1", broker);
    options.set_keep_alive(Duration::from_secs(10));
    let (client, mut events) = AsyncClient::new(options, 32);
    let mut said: BTreeMap<String, Said> = BTreeMap::new();
    let mut look = tokio::time::interval(LOOKS_EVERY);
    loop {
        tokio::select! {
            event = events.poll() => match event {
                Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                    let replies = format!("{}/reply", topic("+"));
                    let _ = client.try_subscribe(replies, QoS::AtMostOnce);
                }
                Ok(Event::Incoming(Incoming::Publish(reply))) => {
                    let topic = String::from_utf8_lossy(&reply.topic);
                    hear(&mut said, &topic, &reply.payload);
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(RETRY).await,
            },
            _ = look.tick() => {
                for (pile, payload) in news(&world, &mut said) {
                    let _ = client.try_publish(topic(&pile), QoS::AtMostOnce, false, payload);
                }
            }
        }
    }
}

fn hear(said: &mut BTreeMap<String, Said>, topic: &str, payload: &[u8]) {
    let understood = serde_json::from_slice::<Value>(payload).is_ok_and(|body| body["ok"] == true);
    let pile = topic.split('/').nth(4);
    if let Some(said) = pile.and_then(|pile| said.get_mut(pile)) {
        said.understood |= understood;
    }
}

/// Who has something to say now.
fn news(world: &Shared, said: &mut BTreeMap<String, Said>) -> Vec<(String, String)> {
    world.with(|world| {
        let now_s = world.elapsed_s;
        let mut news = Vec::new();
        for pile in &world.piles {
            let (Some(leaves_s), Some(car)) = (world.leaves_s(&pile.id), &pile.car) else {
                said.remove(&pile.id);
                continue;
            };
            let again = |said: &Said| {
                let wait = if said.understood { REPEATS_S } else { INSISTS_S };
                said.leaves_s != leaves_s || now_s - said.at_s >= wait
            };
            let before = said.get(&pile.id).copied();
            if before.as_ref().is_none_or(again) {
                let understood = before.is_some_and(|b| b.understood && b.leaves_s == leaves_s);
                said.insert(pile.id.clone(), Said { leaves_s, at_s: now_s, understood });
                let needs_kwh = (car.capacity_wh - car.energy_wh) / 1000.0;
                let stays_h = (leaves_s - now_s) / 3600.0;
                let body = json!({"energy_kwh": needs_kwh, "stay_h": stays_h});
                news.push((pile.id.clone(), body.to_string()));
            }
        }
        news
    })
}
