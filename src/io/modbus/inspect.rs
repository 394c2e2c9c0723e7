//! A device looked at by a person: every value decoded beside its raw words, with the time that the
//! answer took; and whether another byte order or another start of the addresses would make more sense.
//!
//! What a stranger gets wrong: only [`tell`] writes, and only what the interlock permits. But any request is a sign of life for some devices
//! (`fed_by = "any"`): while somebody looks, they do not fall back.

use std::time::Duration;

use tokio::time::Instant;

use super::blocks::{self, Block};
use super::bus::{Bus, BusError, Pace};
use super::codec::Raw;
use super::decoder;
use super::device::Device;
use super::fit::{self, Verdict};
use super::identity;
use super::readings::Unusable;
use super::sunspec;
use super::telling::Counter;
use crate::config::{Address, BusIdentity, DeviceConfig, Order, Profile, Table};
use crate::io::clock::{self, Clock};
use crate::logic::observation::Observation;
use crate::logic::safety::interlock::Permitted;

/// One value as it was read.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What it is.
    pub quantity: String,
    /// Table of its registers.
    pub table: Table,
    /// First register, as sent on the wire.
    pub address: u16,
    /// Its registers; none where the device refused.
    pub words: Vec<u16>,
    /// Decoded: a value, nothing ("not available"), or why it cannot be.
    pub value: Result<Option<Raw>, String>,
    /// How long the answer took.
    pub latency: Duration,
    /// When it came.
    pub came: Instant,
}

impl Seen {
    /// How old the value is.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.came.elapsed()
    }
}

/// One read of a block: its words, or why there are none, how long it took, and when it came.
type Answer = (Block, Result<Vec<u16>, BusError>, Duration, Instant);

/// The device.
pub struct Inspector {
    bus: Bus,
    profile: Profile,
    unit: u8,
    pace: Pace,
}

/// Times of a profile's calls.
#[must_use]
pub fn pace(profile: &Profile) -> Pace {
    Pace {
        connect: Duration::from_millis(profile.connect_ms),
        call: Duration::from_millis(profile.call_ms),
        gap: Duration::from_millis(profile.pace_ms),
    }
}

impl Inspector {
    /// Not connected yet.
    #[must_use]
    pub fn new(address: Address, profile: Profile, unit: u8) -> Inspector {
        let pace = pace(&profile);
        Inspector { bus: Bus::new(address), profile, unit, pace }
    }

    /// With the identity of the site file, which `tls://` addresses need.
    #[must_use]
    pub fn known_by(mut self, identity: Option<&BusIdentity>) -> Inspector {
        self.bus.show_identity(identity.map(identity::client));
        self
    }

    /// Reads everything once, in the blocks that the gateway would read.
    ///
    /// # Errors
    /// When the device cannot be reached; a refused block is told at its values.
    pub async fn look(&mut self) -> Result<Vec<Seen>, BusError> {
        if self.profile.kind.is_walked() {
            return self.walk().await;
        }
        let answers = self.ask(0).await?;
        let mut seen = Vec::new();
        for (block, answer, latency, came) in answers {
            for &i in &block.points {
                let point = &self.profile.points[i];
                let (words, value) = match &answer {
                    Ok(words) => {
                        let at = usize::from(point.address - block.first);
                        let own = words[at..].iter().copied();
                        let own = own.take(usize::from(point.value_type.words())).collect();
                        let value = decoder::value(point, block.first, words);
                        (own, value.map_err(|why: Unusable| why.to_string()))
                    }
                    Err(error) => (Vec::new(), Err(error.to_string())),
                };
                let (quantity, table, address) =
                    (point.quantity.clone(), point.table, point.address);
                seen.push(Seen { quantity, table, address, words, value, latency, came });
            }
        }
        Ok(seen)
    }

    /// Every block, its addresses moved by `shift`. The first silence ends it: the device is not there.
    async fn ask(&mut self, shift: i32) -> Result<Vec<Answer>, BusError> {
        let mut answers = Vec::new();
        for block in blocks::compile(&self.profile) {
            let started = clock::instant();
            let first = u16::try_from(i32::from(block.first) + shift);
            let answer = match first {
                Ok(first) => {
                    let span = (first, block.count);
                    self.bus.read(self.unit, block.table, span, self.pace).await
                }
                Err(_) => Err(BusError::Broken("no such register".to_owned())),
            };
            match answer {
                answer @ (Ok(_) | Err(BusError::Exception(_) | BusError::Broken(_))) => {
                    answers.push((block, answer, started.elapsed(), clock::instant()));
                }
                Err(silent) => return Err(silent),
            }
        }
        Ok(answers)
    }

    /// Tries the profile as it is, and the other byte orders and starts of the addresses beside it.
    ///
    /// # Errors
    /// When the device cannot be reached.
    pub async fn try_on(&mut self) -> Result<Verdict, BusError> {
        let mut tried = Vec::new();
        for shift in [0, -1, 1] {
            let answers = match self.ask(shift).await {
                Ok(answers) => answers,
                // A device that keeps silent at foreign addresses has still answered at its own.
                Err(error) if shift == 0 => return Err(error),
                Err(_) => continue,
            };
            let answers: Vec<(Block, Option<Vec<u16>>)> =
                answers.into_iter().map(|(block, answer, ..)| (block, answer.ok())).collect();
            for (_, order) in Order::ALL {
                tried.push(fit::score(&self.profile, &answers, (order, shift)));
            }
        }
        Ok(fit::judge(&self.profile, tried))
    }

    /// The models of a SunSpec device, each with its first registers.
    async fn walk(&mut self) -> Result<Vec<Seen>, BusError> {
        let models = sunspec::walk(&mut self.bus, self.unit, self.pace).await?;
        let mut seen = Vec::new();
        for (id, (address, length)) in models.places() {
            let started = clock::instant();
            let span = (address, length.min(MOST_SHOWN));
            let answer = self.bus.read(self.unit, Table::Holding, span, self.pace).await;
            let value = Ok(Some(Raw::Number(f64::from(length.saturating_sub(2)))));
            seen.push(Seen {
                quantity: format!("model_{id}"),
                table: Table::Holding,
                address,
                words: answer?,
                value,
                latency: started.elapsed(),
                came: clock::instant(),
            });
        }
        Ok(seen)
    }
}

/// What came of telling a device something once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Told {
    /// Whether the device held it when it was read back.
    pub obeyed: bool,
    /// How long that took, wall time.
    pub took: Duration,
}

/// Tells a charger or a node what is permitted and reads it back, as its link would; every register that is
/// written is counted in `writes`.
///
/// # Errors
/// When nothing can be told: no recipe, or the device cannot be reached at all.
pub async fn tell(
    (config, identity): (&DeviceConfig, Option<&BusIdentity>),
    site: &Clock,
    permitted: &Permitted,
    writes: &Counter,
) -> Result<Told, BusError> {
    let mut bus = Bus::with_tls(config.address.clone(), identity.map(identity::client));
    let mut device = Device::new(config.clone(), false, None).counting(writes.clone());
    let started = clock::instant();
    let mut told = Vec::new();
    while told.is_empty() {
        let now = site.now();
        let nothing = || BusError::Broken("the device cannot be told anything".to_owned());
        let (at, _) = device.next_write(permitted, now).ok_or_else(nothing)?;
        site.sleep(at.uptime.saturating_sub(now.uptime)).await;
        device.obey(&mut bus, site, permitted, &mut told).await;
    }
    let obeyed = matches!(told.first(), Some(Observation::Obeyed { matches: true, .. }));
    Ok(Told { obeyed, took: started.elapsed() })
}

/// Registers of a model that are shown.
const MOST_SHOWN: u16 = 12;
