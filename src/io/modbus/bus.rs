//! One line to one Modbus address: connect, call with a time-out, pace, give up.
//!
//! What a stranger gets wrong: tokio-modbus has no time-outs, does not throw away a late reply, and takes
//! the wrong number of registers and a wrong echo for good. So after any time-out, transport error or
//! answer that does not fit, a TCP connection is renewed. RTU frames carry no transaction id: a late one of
//! the right length would be believed. A unit that was late there is left alone until its answer must have
//! come, and then must answer a read of another length before anything of it is believed again (FB5).
//! Exceptions are answers: they keep the connection.

use std::collections::BTreeMap;
use std::io::ErrorKind::InvalidData;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_modbus::client::{Client, Context, rtu, tcp};
use tokio_modbus::prelude::{DeviceIdObject, ReadCode, SlaveContext};
use tokio_modbus::{ExceptionCode, Request, Response, Slave};
use tokio_rustls::rustls::ClientConfig;

use super::habits::Habits;
use super::line::{self, Wire};
use super::patience::Patience;
use crate::config::{Address, Table};
use crate::io::clock;
use crate::logic::observation::Silence;

/// First and longest pause after a failed connection.
const BACK_OFF_FIRST: Duration = Duration::from_millis(500);
const BACK_OFF_MOST: Duration = Duration::from_secs(5);
/// After this much more than a call's time-out a late RTU answer must have come: one frame of 256 bytes at
/// 9600 baud takes 290 ms, and FB5 asks for 50 ms beyond.
const LATE_MORE: Duration = Duration::from_millis(350);
/// Silence on an RTU line after a broken exchange, before anybody else is asked (FB5).
const SETTLE: Duration = Duration::from_millis(50);
/// Reads of another length that a unit may refuse before its silence alone must do.
const FENCES: u16 = 3;

/// Why a call gave no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BusError {
    /// No connection.
    #[error("cannot connect to {address}: {cause}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        cause: String,
    },
    /// The address refuses connections.
    #[error(
        "{address} refuses the connection: another master may hold it, or its Modbus service is off"
    )]
    Refused {
        /// Where.
        address: String,
    },
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The device refused.
    #[error("the device answered with exception {0}")]
    Exception(ExceptionCode),
    /// The answer did not fit the question.
    #[error("broken answer: {0}")]
    Broken(String),
}

impl BusError {
    /// As the controller hears it.
    #[must_use]
    pub fn silence(&self) -> Silence {
        match self {
            BusError::Unreachable { .. } | BusError::Refused { .. } => Silence::Unreachable,
            BusError::Timeout(_) => Silence::Timeout,
            BusError::Exception(_) => Silence::Exception,
            BusError::Broken(_) => Silence::Broken,
        }
    }
}

/// Times of one device's calls.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Longest time to connect.
    pub connect: Duration,
    /// Longest time for an answer.
    pub call: Duration,
    /// Pause after each call.
    pub gap: Duration,
}

/// Why there is no connection, and until when none is tried.
#[derive(Debug)]
struct Down {
    until: Instant,
    why: BusError,
}

/// One connection, renewed when it fails.
pub struct Bus {
    address: Address,
    /// What `tls://` addresses need, or why it cannot be used.
    tls: Option<Result<Arc<ClientConfig>, String>>,
    context: Option<Context>,
    down: Option<Down>,
    /// Pause before the next try to connect; grows while connecting fails.
    pause: Duration,
    /// Connections made so far.
    made: u64,
    /// Whether anything was answered on this connection.
    answered: bool,
    /// Nobody is asked on an RTU line before this.
    settled: Option<Instant>,
    /// Units whose late RTU answer may still come, and until when.
    late: BTreeMap<u8, Instant>,
    /// Length of the last read that proved a unit, 1 to [`FENCES`] + 1.
    fence: u16,
    /// How quickly each unit answers.
    habits: Habits,
    /// No answer is waited for longer than this.
    most: Option<Duration>,
    patience: Patience,
}

impl Bus {
    /// Not connected yet.
    #[must_use]
    pub fn new(address: Address) -> Bus {
        Bus {
            address,
            tls: None,
            context: None,
            down: None,
            pause: BACK_OFF_FIRST,
            made: 0,
            answered: false,
            settled: None,
            late: BTreeMap::new(),
            fence: 0,
            habits: Habits::default(),
            most: None,
            patience: Patience::default(),
        }
    }

    /// With the identity that `tls://` addresses need.
    #[must_use]
    pub fn with_tls(address: Address, tls: Option<Result<Arc<ClientConfig>, String>>) -> Bus {
        Bus { tls, ..Bus::new(address) }
    }

    /// Shows this identity to a `tls://` address from now on.
    pub fn show_identity(&mut self, tls: Option<Result<Arc<ClientConfig>, String>>) {
        self.tls = tls;
    }

    /// Connections made so far: who remembers it can tell that the line was cut in between.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.made
    }

    /// How quickly each unit answers, wall time.
    #[must_use]
    pub fn habits(&self) -> &Habits {
        &self.habits
    }

    /// Haste was wrong about a unit, see [`Habits::wronged`].
    pub fn wronged(&mut self, unit: u8) {
        self.habits.wronged(unit);
    }

    /// Waits no longer than this for any answer from now on, whatever the pace of a call says. What comes later
    /// is known for late as long as the pace says all the same.
    pub fn wait_at_most(&mut self, span: Option<Duration>) {
        self.most = span;
    }

    /// How long, in wall time, a unit should not be asked: its late answer may still come.
    #[must_use]
    pub fn rests(&self, unit: u8) -> Duration {
        let now = clock::instant();
        self.late.get(&unit).map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// Reads `count` registers from `first`.
    ///
    /// # Errors
    /// No connection, no answer in time, an exception, or an answer that does not fit.
    pub async fn read(
        &mut self,
        unit: u8,
        table: Table,
        (first, count): (u16, u16),
        pace: Pace,
    ) -> Result<Vec<u16>, BusError> {
        if self.late.contains_key(&unit) {
            tokio::time::sleep(self.rests(unit)).await;
            self.prove(unit, table, (first, count), pace).await?;
        }
        let answer = self.words(unit, table, (first, count), pace).await;
        if !matches!(answer, Err(BusError::Broken(_))) {
            return answer;
        }
        // Noise, the late answer of another unit, a connection that was cut since. Once more, and no more:
        // the next round comes.
        if self.late.contains_key(&unit) {
            tokio::time::sleep(self.rests(unit)).await;
            self.prove(unit, table, (first, count), pace).await?;
        }
        self.words(unit, table, (first, count), pace).await
    }

    /// Maker, product and revision, as far as the device tells them (function 43, type 14).
    ///
    /// # Errors
    /// No connection, no answer in time, or an exception: most devices do not know the question.
    pub async fn identify(&mut self, unit: u8, pace: Pace) -> Result<Vec<String>, BusError> {
        let request = Request::ReadDeviceIdentification(ReadCode::Basic, 0);
        match self.call(unit, request, pace).await? {
            Response::ReadDeviceIdentification(told) => {
                let text = |object: &DeviceIdObject| object.value_as_str().map(str::to_owned);
                Ok(told.device_id_objects.iter().filter_map(text).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Writes `words` from `first` with function 6 (one word) or 16. Never waits for a late answer: whoever
    /// writes reads back.
    ///
    /// # Errors
    /// No connection, no answer in time, an exception, or another echo.
    pub async fn write(
        &mut self,
        unit: u8,
        function: u8,
        (first, words): (u16, &[u16]),
        pace: Pace,
    ) -> Result<(), BusError> {
        let request = match (function, words) {
            (6, [word]) => Request::WriteSingleRegister(first, *word),
            _ => Request::WriteMultipleRegisters(first, words.into()),
        };
        let answer = self.call(unit, request, pace).await?;
        let fits = match answer {
            Response::WriteSingleRegister(at, word) => at == first && words == [word],
            Response::WriteMultipleRegisters(at, n) => at == first && usize::from(n) == words.len(),
            _ => false,
        };
        if fits {
            return Ok(());
        }
        self.give_up(unit, None);
        Err(BusError::Broken("the write was echoed differently".to_owned()))
    }

    /// A unit that was late shows that its answers are of this question again: it must answer reads of other
    /// lengths, each another than the one before. A unit that refuses partial reads is trusted after its
    /// silence.
    async fn prove(
        &mut self,
        unit: u8,
        table: Table,
        (first, count): (u16, u16),
        pace: Pace,
    ) -> Result<(), BusError> {
        for _ in 0..FENCES {
            self.fence = self.fence % (FENCES + 1) + 1;
            if self.fence == count {
                self.fence = self.fence % (FENCES + 1) + 1;
            }
            match self.words(unit, table, (first, self.fence), pace).await {
                Ok(_) => break,
                Err(BusError::Exception(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.late.remove(&unit);
        Ok(())
    }

    /// One read, believed or not; never a second try.
    pub(super) async fn words(
        &mut self,
        unit: u8,
        table: Table,
        (first, count): (u16, u16),
        pace: Pace,
    ) -> Result<Vec<u16>, BusError> {
        let request = match table {
            Table::Holding => Request::ReadHoldingRegisters(first, count),
            Table::Input => Request::ReadInputRegisters(first, count),
        };
        let words = match self.call(unit, request, pace).await? {
            Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words) => words,
            _ => Vec::new(),
        };
        if words.len() == usize::from(count) {
            return Ok(words);
        }
        self.give_up(unit, None);
        Err(BusError::Broken(format!("{} registers instead of {count}", words.len())))
    }

    /// One request and its answer; the connection is dropped unless it can be used again.
    async fn call(
        &mut self,
        unit: u8,
        request: Request<'_>,
        pace: Pace,
    ) -> Result<Response, BusError> {
        if let Some(settled) = self.settled.take() {
            tokio::time::sleep_until(settled).await;
        }
        self.connect(pace).await?;
        let Some(context) = &mut self.context else {
            return Err(BusError::Broken("no connection".to_owned()));
        };
        context.set_slave(Slave(unit));
        let wait = self.most.map_or(pace.call, |most| most.min(pace.call));
        let asked = clock::instant();
        let answer = self.patience.within(wait, context.call(request)).await;
        let result = match answer {
            Some(Ok(answer)) => {
                self.habits.heard(unit, asked.elapsed());
                self.answered = true;
                self.pause = BACK_OFF_FIRST;
                answer.map_err(BusError::Exception)
            }
            Some(Err(tokio_modbus::Error::Transport(error)))
                if error.kind() != InvalidData && !self.answered =>
            {
                // Accepted and hung up on: a device that takes one client, and has one.
                self.context = None;
                Err(self.back_off(BusError::Refused { address: self.address.to_string() }))
            }
            Some(Err(error)) => {
                self.give_up(unit, None);
                if matches!(&error, tokio_modbus::Error::Transport(e) if e.kind() != InvalidData) {
                    // The port itself is gone: opened anew even if serial.
                    self.context = None;
                }
                Err(BusError::Broken(words(&error)))
            }
            None => {
                self.give_up(unit, Some(pace.call));
                Err(BusError::Timeout(wait))
            }
        };
        if !pace.gap.is_zero() {
            tokio::time::sleep(pace.gap).await;
        }
        result
    }

    /// The exchange with `unit` went wrong; its answer may still come after this long.
    fn give_up(&mut self, unit: u8, still_due: Option<Duration>) {
        if !matches!(self.address, Address::Serial(_)) {
            self.context = None;
        }
        if !self.has_ids() {
            let now = clock::instant();
            self.settled = Some(now + SETTLE);
            self.late.insert(unit, now + still_due.map_or(SETTLE, |due| due + LATE_MORE));
        }
    }

    /// Whether frames carry transaction ids: a late answer is then known as such.
    fn has_ids(&self) -> bool {
        matches!(self.address, Address::Tcp { .. } | Address::Tls { .. })
    }

    /// Opens the line if it is not. While connecting is backed off, the last cause is answered at once:
    /// nobody waits.
    async fn connect(&mut self, pace: Pace) -> Result<(), BusError> {
        if self.context.is_some() {
            return Ok(());
        }
        if let Some(down) = &self.down
            && clock::instant() < down.until
        {
            return Err(down.why.clone());
        }
        match line::open(&self.address, pace.connect, self.tls.as_ref()).await {
            Ok(wire) => self.attach(wire),
            Err(why) => return Err(self.back_off(why)),
        }
        Ok(())
    }

    /// No connection is tried for a while; with jitter, so that a fleet does not come back in step.
    fn back_off(&mut self, why: BusError) -> BusError {
        let jitter = 0.75 + fastrand::f64() * 0.5;
        self.down =
            Some(Down { until: clock::instant() + self.pause.mul_f64(jitter), why: why.clone() });
        self.pause = (self.pause * 2).min(BACK_OFF_MOST);
        why
    }

    /// Takes a line that somebody else has opened.
    pub fn attach(&mut self, wire: Box<dyn Wire>) {
        self.context = Some(match self.address {
            Address::Tcp { .. } | Address::Tls { .. } => tcp::attach(wire),
            Address::RtuOverTcp { .. } | Address::Serial(_) => {
                rtu::attach_slave(wire, Slave::broadcast())
            }
        });
        self.down = None;
        self.made += 1;
        self.answered = false;
    }
}

/// What was wrong with an answer. The answer itself is left out: a header of another unit tells more than
/// its hundred registers.
fn words(error: &tokio_modbus::Error) -> String {
    use tokio_modbus::ProtocolError::{FunctionCodeMismatch, HeaderMismatch};
    match error {
        tokio_modbus::Error::Protocol(HeaderMismatch { message, .. }) => message.clone(),
        tokio_modbus::Error::Protocol(FunctionCodeMismatch { request, .. }) => {
            format!("another function than {request}")
        }
        tokio_modbus::Error::Transport(error) => error.to_string(),
    }
}
