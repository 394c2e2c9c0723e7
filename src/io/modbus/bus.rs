//! One connection to one Modbus address: connect, call with a time-out, pace, give up.
//!
//! What a stranger gets wrong: tokio-modbus has no time-outs and does not throw away a late reply. So
//! after any time-out, transport error or answer that does not fit, the connection is dropped; through
//! an RTU bridge, where a late frame of the right length would be believed, the next connection also
//! waits until the late frame must have come. Exceptions are answers: they keep the connection.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_modbus::client::{Context, Reader, Writer, rtu, tcp};
use tokio_modbus::prelude::SlaveContext;
use tokio_modbus::{ExceptionCode, Slave};

use crate::config::{Address, Table};
use crate::logic::observation::Silence;

/// First and longest pause after a failed connection.
const BACK_OFF_FIRST: Duration = Duration::from_millis(500);
const BACK_OFF_MOST: Duration = Duration::from_secs(5);

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// No connection.
    #[error("cannot connect to {address}: {cause}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        cause: String,
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
            BusError::Unreachable { .. } => Silence::Unreachable,
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

/// One connection, renewed when it fails.
pub struct Bus {
    address: Address,
    context: Option<Context>,
    /// Pause before the next try to connect; grows while connecting fails.
    back_off: Duration,
    /// The next connection must not be made before this long has passed.
    wait: Duration,
}

impl Bus {
    /// Not connected yet.
    #[must_use]
    pub fn new(address: Address) -> Bus {
        Bus { address, context: None, back_off: BACK_OFF_FIRST, wait: Duration::ZERO }
    }

    /// Reads `count` registers from `first`.
    pub async fn read(
        &mut self,
        unit: u8,
        table: Table,
        (first, count): (u16, u16),
        pace: Pace,
    ) -> Result<Vec<u16>, BusError> {
        let context = self.context(unit, pace).await?;
        let call = async {
            match table {
                Table::Holding => context.read_holding_registers(first, count).await,
                Table::Input => context.read_input_registers(first, count).await,
            }
        };
        let answer = timeout(pace.call, call).await;
        let words = self.settle(answer, pace).await?;
        if words.len() == usize::from(count) {
            return Ok(words);
        }
        self.drop_connection(pace);
        Err(BusError::Broken(format!("{} registers instead of {count}", words.len())))
    }

    /// Writes `words` from `first` with function 6 (one word) or 16.
    pub async fn write(
        &mut self,
        unit: u8,
        function: u8,
        (first, words): (u16, &[u16]),
        pace: Pace,
    ) -> Result<(), BusError> {
        let context = self.context(unit, pace).await?;
        let call = async {
            match (function, words) {
                (6, [word]) => context.write_single_register(first, *word).await,
                _ => context.write_multiple_registers(first, words).await,
            }
        };
        let answer = timeout(pace.call, call).await;
        self.settle(answer, pace).await
    }

    /// Sorts the layers of an answer; drops the connection unless it can be used again.
    async fn settle<T>(
        &mut self,
        answer: Result<tokio_modbus::Result<T>, tokio::time::error::Elapsed>,
        pace: Pace,
    ) -> Result<T, BusError> {
        let result = match answer {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(exception))) => Err(BusError::Exception(exception)),
            Ok(Err(error)) => {
                self.drop_connection(pace);
                Err(BusError::Broken(error.to_string()))
            }
            Err(_) => {
                self.drop_connection(pace);
                Err(BusError::Timeout(pace.call))
            }
        };
        if !pace.gap.is_zero() {
            tokio::time::sleep(pace.gap).await;
        }
        result
    }

    fn drop_connection(&mut self, pace: Pace) {
        self.context = None;
        if matches!(self.address, Address::RtuOverTcp { .. }) {
            // At least one frame time and 50 ms after the latest moment of the late answer (FB5).
            self.wait = pace.call + Duration::from_millis(350);
        }
    }

    async fn context(&mut self, unit: u8, pace: Pace) -> Result<&mut Context, BusError> {
        if self.context.is_none() {
            tokio::time::sleep(std::mem::take(&mut self.wait)).await;
            match connect(&self.address, unit, pace).await {
                Ok(context) => {
                    self.back_off = BACK_OFF_FIRST;
                    self.context = Some(context);
                }
                Err(error) => {
                    let jitter = 0.75 + fastrand::f64() * 0.5;
                    self.wait = self.back_off.mul_f64(jitter);
                    self.back_off = (self.back_off * 2).min(BACK_OFF_MOST);
                    return Err(error);
                }
            }
        }
        let unreachable = || BusError::Broken("no connection".to_owned());
        let context = self.context.as_mut().ok_or_else(unreachable)?;
        context.set_slave(Slave(unit));
        Ok(context)
    }
}

async fn connect(address: &Address, unit: u8, pace: Pace) -> Result<Context, BusError> {
    let (Address::Tcp { host, port } | Address::RtuOverTcp { host, port }) = address;
    let place = format!("{host}:{port}");
    let failed = |cause: String| BusError::Unreachable { address: place.clone(), cause };
    let stream = match timeout(pace.connect, TcpStream::connect(&place)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed(format!("no answer within {:?}", pace.connect))),
    };
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%place, %error, "TCP_NODELAY refused");
    }
    Ok(match address {
        Address::Tcp { .. } => tcp::attach_slave(stream, Slave(unit)),
        Address::RtuOverTcp { .. } => rtu::attach_slave(stream, Slave(unit)),
    })
}
