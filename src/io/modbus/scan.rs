//! Which devices are there: open ports, unit ids behind them, what they say of themselves, SunSpec, and
//! which profiles fit. It only reads.
//!
//! What a stranger gets wrong: many devices on a network answer under any unit id. Units of one address that show
//! the same are one row there, told when all were tried; on a serial line each is a device of its own and told at
//! once. Stopping half-way is dropping the future: nothing is left behind but closed connections.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, Sender};
use tokio::task::JoinSet;
use tokio_modbus::ExceptionCode;

use super::blocks::{self, Block};
use super::bus::{Bus, BusError, Pace};
use super::fit;
use super::sunspec;
use crate::config::{Address, Profile, Table};
use crate::io::clock;

/// Places that are tried at a time; more would drown a small switch.
const AT_A_TIME: usize = 32;
/// Largest part of a network that is scanned at once: a /20.
const MOST_HOSTS: u32 = 4096;
/// A fit below this is not worth telling.
const LEAST_CONFIDENCE: f64 = 0.5;
/// Profiles that are told for a device.
const MOST_FITS: usize = 3;
/// What the places that are looked at may have to tell at a time.
const STEPS: usize = 64;
/// Time for a port to open.
const OPEN_WITHIN: Duration = Duration::from_millis(700);

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where.
    pub places: Vec<Address>,
    /// Under which unit ids.
    pub units: Vec<u8>,
    /// The profiles that may fit.
    pub profiles: Vec<Profile>,
    /// Longest time for an answer.
    pub call: Duration,
}

/// One device that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Where, as a site file writes it.
    pub address: String,
    /// The unit ids under which it answers.
    pub units: Vec<u8>,
    /// Maker, product and revision, as far as it tells them.
    pub identity: Vec<String>,
    /// SunSpec models, where it speaks SunSpec.
    pub sunspec: Vec<u16>,
    /// Profiles that fit, the best first.
    pub fits: Vec<Fit>,
}

/// A profile that fits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fit {
    /// Its id.
    pub profile: String,
    /// How sure that is, 0 to 1.
    pub confidence: f64,
}

/// What happens while it looks.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Steps done, of how many, and how long the rest will take.
    Progress {
        /// Done.
        done: usize,
        /// Of.
        total: usize,
        /// The rest.
        left: Duration,
    },
    /// A device.
    Found(Row),
}

/// What there is to do, and what is done.
struct Score {
    done: usize,
    total: usize,
    started: tokio::time::Instant,
}

impl Score {
    fn news(&self) -> News {
        let (done, total) = (self.done, self.total.max(self.done));
        let rest = (total - done) as f64 / done.max(1) as f64;
        News::Progress { done, total, left: self.started.elapsed().mul_f64(rest) }
    }
}

/// What comes of looking at a place.
enum Step {
    /// So many steps are done.
    Done(usize),
    Found(Row),
}

/// Looks everywhere and tells what it finds, as it finds it. It ends early when nobody listens.
pub async fn scan(wanted: Wanted, news: Sender<News>) {
    let total = wanted.places.len() * (wanted.units.len() + 1);
    let mut score = Score { done: 0, total, started: clock::instant() };
    let mut waiting = wanted.places.clone().into_iter();
    let (told, mut steps) = mpsc::channel(STEPS);
    let mut running = JoinSet::new();
    loop {
        while running.len() < AT_A_TIME
            && let Some(place) = waiting.next()
        {
            running.spawn(look_at(place, wanted.clone(), told.clone()));
        }
        let step = tokio::select! {
            biased;
            Some(step) = steps.recv() => step,
            home = running.join_next() => match home {
                Some(_) => continue,
                // Everyone has come home, and what they had to tell is told.
                None => return,
            },
        };
        let what = match step {
            Step::Found(row) => News::Found(row),
            Step::Done(count) => {
                score.done += count;
                score.news()
            }
        };
        if news.send(what).await.is_err() {
            return;
        }
    }
}

/// Everything behind one address. Nobody listens any more when `told` is closed: then the rest is not worth
/// looking at.
async fn look_at(place: Address, wanted: Wanted, told: Sender<Step>) -> Option<()> {
    let mut left = wanted.units.len() + 1;
    let is_open = match &place {
        Address::Tcp { host, port } => {
            let open = TcpStream::connect((host.as_str(), *port));
            matches!(tokio::time::timeout(OPEN_WITHIN, open).await, Ok(Ok(_)))
        }
        _ => true,
    };
    let shares_ids = !matches!(place, Address::Serial(_));
    let pace = Pace { connect: Duration::from_secs(3), call: wanted.call, gap: Duration::ZERO };
    let mut bus = Bus::new(place.clone());
    let mut rows: Vec<Row> = Vec::new();
    let units = wanted.units.iter().filter(|_| is_open);
    for &unit in units {
        let is_there = match is_there(&mut bus, unit, pace).await {
            Ok(is_there) => is_there,
            Err(_) => break,
        };
        if is_there {
            let row = row(&mut bus, &place, (unit, pace), &wanted.profiles).await;
            match rows.iter_mut().find(|known| is_same(known, &row)) {
                _ if !shares_ids => told.send(Step::Found(row)).await.ok()?,
                Some(known) => known.units.push(unit),
                None => rows.push(row),
            }
        }
        left -= 1;
        told.send(Step::Done(1)).await.ok()?;
    }
    for row in rows {
        told.send(Step::Found(row)).await.ok()?;
    }
    told.send(Step::Done(left)).await.ok()
}

/// What one unit is.
async fn row(
    bus: &mut Bus,
    place: &Address,
    (unit, pace): (u8, Pace),
    profiles: &[Profile],
) -> Row {
    let identity = bus.identify(unit, pace).await.unwrap_or_default();
    let sunspec = models(bus, unit, pace).await;
    let fits = fits(bus, (unit, pace), profiles, &sunspec).await;
    Row { address: place.to_string(), units: vec![unit], identity, sunspec, fits }
}

/// Whether two units show the same device.
fn is_same(a: &Row, b: &Row) -> bool {
    let profiles = |row: &Row| row.fits.iter().map(|fit| fit.profile.clone()).collect::<Vec<_>>();
    a.identity == b.identity && a.sunspec == b.sunspec && profiles(a) == profiles(b)
}

/// A refusal is an answer too, unless a gateway gives it for a unit that is not there.
async fn is_there(bus: &mut Bus, unit: u8, pace: Pace) -> Result<bool, BusError> {
    match bus.read(unit, Table::Holding, (0, 1), pace).await {
        Ok(_) => Ok(true),
        Err(BusError::Exception(code)) => Ok(!matches!(
            code,
            ExceptionCode::GatewayPathUnavailable | ExceptionCode::GatewayTargetDevice
        )),
        Err(BusError::Timeout(_) | BusError::Broken(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn models(bus: &mut Bus, unit: u8, pace: Pace) -> Vec<u16> {
    match sunspec::walk(bus, unit, pace).await {
        Ok(models) => models.places().into_iter().map(|(id, _)| id).collect(),
        Err(_) => Vec::new(),
    }
}

/// The profiles that fit, the best first.
async fn fits(
    bus: &mut Bus,
    (unit, pace): (u8, Pace),
    profiles: &[Profile],
    sunspec: &[u16],
) -> Vec<Fit> {
    let mut fits = Vec::new();
    for profile in profiles {
        let (confidence, held) = match profile.kind.is_walked() {
            true => (f64::from(u8::from(sunspec::serves(profile.kind, sunspec))), 0),
            false => confidence(bus, (unit, pace), profile).await,
        };
        if confidence >= LEAST_CONFIDENCE {
            fits.push((held, Fit { profile: profile.id.clone(), confidence }));
        }
    }
    // Of two that are equally sure, the one of which more was checked.
    fits.sort_by(|(a_held, a), (b_held, b)| {
        b.confidence.total_cmp(&a.confidence).then(b_held.cmp(a_held))
    });
    fits.into_iter().map(|(_, fit)| fit).take(MOST_FITS).collect()
}

/// How sure it is that the device has this profile, and how many checks held; its first refusal or silence
/// settles it.
async fn confidence(bus: &mut Bus, (unit, pace): (u8, Pace), profile: &Profile) -> (f64, u32) {
    let mut answers: Vec<(Block, Option<Vec<u16>>)> = Vec::new();
    for block in blocks::compile(profile) {
        let span = (block.first, block.count);
        match bus.read(unit, block.table, span, pace).await {
            Ok(words) => answers.push((block, Some(words))),
            Err(_) => return (0.0, 0),
        }
    }
    let way = fit::score(profile, &answers, (profile.order, 0));
    (way.confidence(), way.held)
}

/// Addresses of `HOST` or `A.B.C.D/BITS`, each with every port; of those that follow after a colon, if any do
/// (`HOST:502,1502`). Nothing where the text is none of that, or the network is larger than a /20.
#[must_use]
pub fn places(text: &str, ports: &[u16]) -> Option<Vec<Address>> {
    // A host with colons of its own has an address of IPv6.
    let (text, own) = match text.split_once(':') {
        Some((host, list)) if !list.contains(':') => {
            let ports: Result<Vec<u16>, _> = list.split(',').map(str::parse).collect();
            (host, Some(ports.ok()?))
        }
        _ => (text, None),
    };
    let ports = own.as_deref().unwrap_or(ports);
    let hosts: Vec<String> = match text.split_once('/') {
        Some((base, bits)) => {
            let base: Ipv4Addr = base.parse().ok()?;
            let bits: u32 = bits.parse().ok().filter(|bits| *bits <= 32)?;
            let count = 1u32.checked_shl(32 - bits).filter(|count| *count <= MOST_HOSTS)?;
            let first = u32::from(base) & !(count - 1);
            // The first and the last address of a network are not a device's.
            let inner = if count > 2 { first + 1..first + count - 1 } else { first..first + count };
            inner.map(|host| Ipv4Addr::from(host).to_string()).collect()
        }
        None if text.is_empty() || text.contains([' ', '/', '@']) => return None,
        None => vec![text.to_owned()],
    };
    let place = |host: &String| {
        let at = |&port: &u16| Address::Tcp { host: host.clone(), port };
        ports.iter().map(at).collect::<Vec<_>>()
    };
    Some(hosts.iter().flat_map(place).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_become_addresses() {
        let text = |places: Vec<Address>| -> Vec<String> {
            places.iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            text(places("10.0.0.7", &[502, 1502]).unwrap()),
            ["tcp://10.0.0.7:502", "tcp://10.0.0.7:1502"]
        );
        assert_eq!(
            text(places("10.0.0.9/30", &[502]).unwrap()),
            ["tcp://10.0.0.9:502", "tcp://10.0.0.10:502"]
        );
        assert_eq!(places("192.168.1.0/24", &[502]).unwrap().len(), 254);
        assert_eq!(places("10.0.0.1/32", &[502]).unwrap().len(), 1);
        assert_eq!(
            text(places("10.0.0.9/30:502,1502", &[7]).unwrap()),
            [
                "tcp://10.0.0.9:502",
                "tcp://10.0.0.9:1502",
                "tcp://10.0.0.10:502",
                "tcp://10.0.0.10:1502"
            ]
        );
        assert_eq!(text(places("pile.local:1502", &[502]).unwrap()), ["tcp://pile.local:1502"]);
        assert_eq!(places("::1", &[502]).unwrap().len(), 1, "IPv6 has colons of its own");
        let ports = ["a:", "a:x", "a:70000", "a:502,"];
        for bad in ["10.0.0.0/8", "10.0.0.0/33", "x/24", "", "a b"].into_iter().chain(ports) {
            assert_eq!(places(bad, &[502]), None, "{bad}");
        }
    }
}
