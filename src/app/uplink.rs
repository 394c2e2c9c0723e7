//! The uplink's thread: MQTT and the page on a runtime of their own. Whatever happens here, the
//! control loop does not notice; a panic restarts the uplink with back-off.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::aside::Looks;
use super::control::{RunError, named};
use super::jobs::Orders;
use crate::config::{Config, MqttConfig, WebConfig};
use crate::io::camera::StillBoard;
use crate::io::clock::Clock;
use crate::io::mqtt;
use crate::io::store::{Journal, Writes};
use crate::io::web::{self, Lock, WebState};
use crate::logic::decision::{LinkView, OutboxView, Overview};
use crate::logic::observation::{Observation, Trouble};
use crate::logic::safety::alarms::Signature;
use crate::logic::site::Id;
use crate::units::Watts;

/// First and longest pause before a crashed part starts again.
const RESTART_FIRST: Duration = Duration::from_secs(1);
const RESTART_MOST: Duration = Duration::from_secs(60);
/// How often link and outbox are looked at for alarms.
const LOOKS_EVERY: Duration = Duration::from_secs(1);
/// How often a drill that puts the broker aside is looked for.
const LOOKS_ASIDE_EVERY: Duration = Duration::from_millis(200);
/// Longest wait for MQTT to say goodbye and the page to close.
const STOPS_IN: Duration = Duration::from_secs(3);

/// What the uplink needs.
#[derive(Clone)]
pub struct Uplink {
    /// Records on their way to the broker.
    pub journal: Journal,
    /// The newest overview.
    pub overview: watch::Receiver<Option<Arc<Overview>>>,
    /// How often each register was written.
    pub written: watch::Receiver<Writes>,
    /// The newest still of every camera.
    pub stills: StillBoard,
    /// The way to the controller.
    pub observations: SyncSender<Observation>,
    /// What whoever acknowledges on the page must know.
    pub code: String,
    /// Site time.
    pub clock: Clock,
    /// The page says so.
    pub simulated: bool,
    /// Whether a drill puts the broker aside.
    pub looks: Looks,
    /// Becomes true when the gateway stops.
    pub stopped: watch::Receiver<bool>,
    /// The way of orders about jobs.
    pub orders: Orders,
}

/// Starts the uplink's thread. The page's address is taken before this returns, so that a port in use
/// is an error of the start and not a message in a log.
///
/// # Errors
/// When the address is taken or the thread cannot start.
pub fn start(config: &Config, uplink: Uplink) -> Result<JoinHandle<()>, RunError> {
    let failed = |cause| RunError::Start { what: "uplink", cause };
    let address = config.web.listen;
    let listen = |cause| RunError::Listen { address, cause };
    let listener = std::net::TcpListener::bind(address).map_err(listen)?;
    listener.set_nonblocking(true).map_err(listen)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (site, mqtt, web) = (config.site.id.clone(), config.mqtt.clone(), config.web.clone());
    named("uplink", move || {
        runtime.block_on(async move {
            let (link, link_view) = watch::channel(LinkView::default());
            let page = keep_alive("page", uplink.stopped.clone(), || {
                serve_page(listener.try_clone(), web.clone(), uplink.clone(), link_view.clone())
            });
            let messages = async {
                if let Some(mqtt) = &mqtt {
                    keep_alive("mqtt", uplink.stopped.clone(), || {
                        publish(mqtt.clone(), site.clone(), uplink.clone(), link.clone())
                    })
                    .await;
                }
            };
            let mut stopped = uplink.stopped.clone();
            let troubles = report_troubles(&uplink, link_view.clone(), mqtt.is_some());
            let all = async { tokio::join!(page, messages, troubles) };
            let overdue = async {
                let _ = stopped.wait_for(|stop| *stop).await;
                tokio::time::sleep(STOPS_IN).await;
            };
            tokio::select! {
                _ = all => {}
                () = overdue => tracing::warn!("the uplink did not close in time"),
            }
        });
    })
}

/// Runs a part again and again, with back-off, until it ends while the gateway stops.
async fn keep_alive<F, Part>(name: &str, mut stopped: watch::Receiver<bool>, mut part: F)
where
    F: FnMut() -> Part,
    Part: Future<Output = Result<(), String>> + Send + 'static,
{
    let mut pause = RESTART_FIRST;
    loop {
        match tokio::spawn(part()).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => tracing::error!(part = name, %why, "uplink part failed"),
            Err(panic) => tracing::error!(part = name, why = %panic, "uplink part panicked"),
        }
        if *stopped.borrow() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(RESTART_MOST),
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}

/// Tells the controller, which keeps the alarms, when the broker or the outbox is in trouble.
async fn report_troubles(uplink: &Uplink, mut link: watch::Receiver<LinkView>, has_broker: bool) {
    let mut outbox: watch::Receiver<OutboxView> = uplink.journal.view();
    let mut stopped = uplink.stopped.clone();
    let mut told = (false, false);
    loop {
        let now = (
            has_broker && !link.borrow_and_update().connected,
            outbox.borrow_and_update().fault.is_some(),
        );
        let tell = |trouble, holds, before| {
            let at = uplink.clock.now();
            let told = Observation::Trouble { trouble, holds, at };
            // What does not fit now is told at the next look.
            if holds != before && uplink.observations.try_send(told).is_err() {
                before
            } else {
                holds
            }
        };
        told.0 = tell(Trouble::BrokerDown, now.0, told.0);
        told.1 = tell(Trouble::StoreFault, now.1, told.1);
        tokio::select! {
            () = tokio::time::sleep(LOOKS_EVERY) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}

async fn serve_page(
    listener: std::io::Result<std::net::TcpListener>,
    web: WebConfig,
    uplink: Uplink,
    link: watch::Receiver<LinkView>,
) -> Result<(), String> {
    let listener = listener.and_then(TcpListener::from_std).map_err(|error| error.to_string())?;
    tracing::info!(address = %web.listen, "page and API");
    let stills = uplink.stills;
    let still = move |id: &Id| stills.get(id).map(|still| (still.jpeg, still.at));
    let (observations, clock) = (uplink.observations.clone(), uplink.clock);
    let acknowledge = move |alarm: String, signature: Signature| {
        let at = clock.now();
        observations.try_send(Observation::Acknowledged { alarm, signature, at }).is_ok()
    };
    let targets = targets(uplink.observations.clone(), clock);
    let modes = modes(uplink.observations.clone(), clock);
    let state = WebState {
        overview: uplink.overview,
        link,
        outbox: uplink.journal.view(),
        written: uplink.written,
        stills: Arc::new(still),
        clock: uplink.clock,
        speed: uplink.clock.speed(),
        simulated: uplink.simulated,
        acknowledge: Arc::new(acknowledge),
        targets,
        modes,
        dim: dim(uplink.observations, clock),
        orders: uplink.orders,
        lock: Arc::new(Lock::new(uplink.code)),
    };
    web::serve(listener, state, uplink.stopped).await.map_err(|error| error.to_string())
}

/// The way of a target to the controller.
fn targets(observations: SyncSender<Observation>, clock: Clock) -> mqtt::Targets {
    Arc::new(move |charger, target| {
        let at = clock.now();
        observations.try_send(Observation::Asked { charger, target, at }).is_ok()
    })
}

/// The way of a charger's mode to the controller.
fn modes(observations: SyncSender<Observation>, clock: Clock) -> mqtt::Modes {
    Arc::new(move |charger, mode| {
        let at = clock.now();
        observations.try_send(Observation::ModeChosen { charger, mode, at }).is_ok()
    })
}

/// The way of a grid operator's limit to the controller.
fn dim(observations: SyncSender<Observation>, clock: Clock) -> mqtt::Dim {
    Arc::new(move |limit: Watts, lasts: Duration| {
        let at = clock.now();
        observations.try_send(Observation::Dimmed { limit, until: at.after(lasts), at }).is_ok()
    })
}

async fn publish(
    config: MqttConfig,
    site: Id,
    uplink: Uplink,
    link: watch::Sender<LinkView>,
) -> Result<(), String> {
    let (clock, looks, mut stopped) = (uplink.clock, uplink.looks, uplink.stopped);
    let lanes = mqtt::Uplink {
        config,
        site,
        journal: uplink.journal,
        overview: uplink.overview,
        written: uplink.written,
        link: link.clone(),
        clock,
        targets: targets(uplink.observations.clone(), clock),
        modes: modes(uplink.observations.clone(), clock),
        dim: dim(uplink.observations, clock),
        orders: uplink.orders,
    };
    let (stop, lanes_stop) = watch::channel(false);
    let run = mqtt::run(lanes, lanes_stop);
    tokio::pin!(run);
    while !looks.takes_broker(clock) && !*stopped.borrow() {
        tokio::select! {
            () = &mut run => return Ok(()),
            () = tokio::time::sleep(LOOKS_ASIDE_EVERY) => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
    }
    // Once more until it has said goodbye; what it could not deliver waits in the outbox.
    stop.send_replace(true);
    run.await;
    while looks.takes_broker(clock) && !*stopped.borrow() {
        link.send_modify(|link| link.connected = false);
        tokio::select! {
            () = tokio::time::sleep(LOOKS_ASIDE_EVERY) => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
    }
    Ok(())
}
