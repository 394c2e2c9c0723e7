//! What a plan is asked for: the site over a horizon of equal steps, and everything that may move.
//!
//! What a stranger gets wrong: powers are averages over one step in kW, seen from the site (a load and
//! a charging store are positive); steps count from 0, and something is there in `arrival..departure`.

/// A site over its horizon.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Problem {
    /// Number of steps, at least 1.
    pub steps: usize,
    /// Length of a step in hours, above 0.
    pub step_hours: f64,
    /// What the sun gives, kW, one number a step, not negative.
    pub pv_kw: Vec<f64>,
    /// Whether less than that may be taken.
    pub pv_curtailable: bool,
    /// Load that is not planned, kW, one number a step.
    pub base_kw: Vec<f64>,
    /// Paid for a kWh from the grid, one number a step; may be negative.
    pub import_price: Vec<f64>,
    /// Earned for a kWh to the grid, one number a step; may be negative.
    pub export_price: Vec<f64>,
    /// Paid once for each kW of the highest import, and the highest import so far in kW.
    pub demand: Demand,
    /// Most import, kW, one number a step.
    pub import_limit_kw: Vec<f64>,
    /// Most export, kW, one number a step.
    pub export_limit_kw: Vec<f64>,
    /// Most on each phase, kW in either direction; none without such a limit.
    pub phase_limit_kw: Option<f64>,
    /// How the base load lies on the three phases (ratios).
    pub base_share: [f64; 3],
    /// The battery.
    pub store: Option<Store>,
    /// Cars.
    pub sessions: Vec<Session>,
    /// Deferrable computing.
    pub jobs: Vec<Job>,
    /// Circuits shared by some loads.
    pub groups: Vec<Group>,
}

/// The demand charge of the horizon.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Demand {
    /// Currency for each kW of the highest import, not negative.
    pub per_kw: f64,
    /// The highest import so far, kW: reaching it again costs nothing more.
    pub so_far_kw: f64,
}

/// A battery: three-phase, balanced, powers on the AC side.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Store {
    /// Charge at the start, kWh.
    pub soc0_kwh: f64,
    /// Least charge, kWh.
    pub soc_min_kwh: f64,
    /// Most charge, kWh.
    pub soc_max_kwh: f64,
    /// Least charge at the end of the horizon, kWh.
    pub soc_end_min_kwh: f64,
    /// Most charging power, kW.
    pub charge_kw: f64,
    /// Most discharging power, kW.
    pub discharge_kw: f64,
    /// Stored for each kWh charged, above 0 to 1.
    pub eff_charge: f64,
    /// Given for each kWh taken out, above 0 to 1.
    pub eff_discharge: f64,
    /// Cost of a kWh charged and discharged again (half for each way), currency.
    pub wear_per_kwh: f64,
    /// Export may come from the sun only.
    pub no_discharge_to_grid: bool,
    /// It is charged with what sun leaves over beside base load and loads, and with nothing else.
    pub sun_only: bool,
}

/// One car's stay.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Session {
    /// First step; below 0 means that it is there already.
    pub arrival: i64,
    /// Step at which it is gone; beyond the horizon means that it stays.
    pub departure: i64,
    /// Asked for, kWh in the car.
    pub need_kwh: f64,
    /// kWh in the car for each kWh at the charger, above 0.
    pub efficiency: f64,
    /// Least power while charging, kW; lowered to `max_kw` where that is less.
    pub min_kw: f64,
    /// Most power, kW.
    pub max_kw: f64,
    /// Which phases it loads, evenly.
    pub phases: [bool; 3],
    /// How it slows down towards the end of its need.
    pub taper: Option<Taper>,
}

/// A car that slows down when it is nearly full: at most `kw_per_kwh` times what is still missing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Taper {
    /// Most power for each kWh still missing, above 0.
    pub kw_per_kwh: f64,
}

/// A computing job that may be put off and interrupted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Job {
    /// First step.
    pub release: i64,
    /// Step at which it must be done.
    pub deadline: i64,
    /// Asked for, kWh.
    pub need_kwh: f64,
    /// Least power while it runs, kW.
    pub min_kw: f64,
    /// Most power, kW.
    pub max_kw: f64,
    /// Which phases it loads, evenly.
    pub phases: [bool; 3],
}

/// A circuit shared by some loads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// Most power of all members together, kW.
    pub limit_kw: f64,
    /// Who is on it.
    pub members: Vec<Member>,
}

/// A load by its place in the lists of the problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Member {
    /// Index into `sessions`.
    Session(usize),
    /// Index into `jobs`.
    Job(usize),
}

/// What could not be taken as it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Which part of the problem.
    pub place: Place,
    /// What was wrong.
    pub kind: FaultKind,
}

/// A part of the problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A car or a job.
    Load(Member),
    /// The battery.
    Store,
    /// A circuit, by its index.
    Group(usize),
    /// A series or number of the site, by its field's name.
    Site(&'static str),
}

/// What was wrong with it, and so what was done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FaultKind {
    /// A number is missing, not a number, or outside its range: left out (a load, a circuit, a battery)
    /// or replaced by zero (a series).
    BadNumber,
    /// There is no step between coming and leaving: not planned.
    NoWindow,
    /// More is asked for than its power and stay allow: planned for `most_kwh`.
    NeedTooLarge {
        /// What its own power and stay allow.
        most_kwh: f64,
    },
    /// Less is asked for than one step at the least power gives: not planned.
    NeedTooSmall {
        /// What one step at the least power gives.
        least_kwh: f64,
    },
    /// The most power is below the least: a car takes its most as its least, a job is not planned.
    MinAboveMax,
    /// It loads no phase: not planned.
    NoPhase,
    /// A member that does not exist: ignored.
    UnknownMember,
    /// The charge asked for at the end cannot be reached: as much as can be.
    EndOutOfReach,
    /// More charge is asked for at the end than there is, of a battery that charges from the sun alone. What the sun
    /// leaves over is no promise: what is there is kept, and more where it pays.
    EndOfSunOnly,
}
