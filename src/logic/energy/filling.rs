//! Weighted max-min filling of a set of limits: everybody rises together, in proportion to their
//! weights, until a limit is full or they have enough. Exact: it goes from event to event, not in steps.
//!
//! What a stranger gets wrong: a row is one limit (a phase of a circuit, or its power); who uses it and
//! how strongly stands in `uses`. A user that starts high waits until the others have come up to it. What is left of
//! a row is only reckoned when somebody begins or ends there: in between it falls evenly.

/// Far below the resolution of any charger; absorbs rounding of the sums.
pub(super) const EPSILON: f64 = 1e-9;

/// The limits and who has risen how far. Rows without a bound are left out.
pub(super) struct Filling {
    /// Which row of the caller each is.
    named: Vec<usize>,
    left: Vec<f64>,
    /// Row and how much of it an ampere takes, claim by claim.
    uses: Vec<(usize, f64)>,
    uses_from: Vec<usize>,
    /// Claims, row by row.
    users: Vec<usize>,
    users_from: Vec<usize>,
    weight: Vec<f64>,
    /// What each claim has; nothing where it was not admitted.
    level: Vec<Option<f64>>,
    /// The row that stopped it.
    stopped_by: Vec<Option<usize>>,
}

/// One rise: how high it is, who rises, and how fast each row is filled.
struct Climb {
    at: f64,
    rising: Vec<bool>,
    count: usize,
    /// Height at which what is left of each row was reckoned last.
    since: Vec<f64>,
    rate: Vec<f64>,
    risers: Vec<usize>,
    /// Height at which each row will be full; infinite where nobody rises.
    full_at: Vec<f64>,
}

impl Climb {
    fn new(claims: usize, rows: usize, at: f64) -> Climb {
        Climb {
            at,
            rising: vec![false; claims],
            count: 0,
            since: vec![at; rows],
            rate: vec![0.0; rows],
            risers: vec![0; rows],
            full_at: vec![f64::INFINITY; rows],
        }
    }

    /// Whether a row is full, or nearly.
    fn is_full(&self, row: usize) -> bool {
        // Where nobody rises this is infinity times nothing, and no.
        (self.full_at[row] - self.at) * self.rate[row] <= EPSILON
    }
}

impl Filling {
    /// `uses` gives for each claim its rows and how much an ampere takes of each; a row without a bound
    /// is infinite.
    pub fn new(left: &[f64], uses: &[Vec<(usize, f64)>], weight: Vec<f64>) -> Filling {
        let named: Vec<usize> = (0..left.len()).filter(|row| left[*row].is_finite()).collect();
        let mut place = vec![None; left.len()];
        named.iter().enumerate().for_each(|(here, row)| place[*row] = Some(here));
        let rows = named.len();
        let (mut flat, mut uses_from) = (Vec::with_capacity(uses.len() * 8), vec![0]);
        let mut users_from = vec![0; rows + 1];
        for own in uses {
            flat.extend(own.iter().filter_map(|(row, strength)| Some((place[*row]?, *strength))));
            uses_from.push(flat.len());
        }
        flat.iter().for_each(|(row, _)| users_from[row + 1] += 1);
        for row in 0..rows {
            users_from[row + 1] += users_from[row];
        }
        let mut next = users_from.clone();
        let mut users = vec![0; flat.len()];
        for claim in 0..uses.len() {
            for (row, _) in &flat[uses_from[claim]..uses_from[claim + 1]] {
                users[next[*row]] = claim;
                next[*row] += 1;
            }
        }
        let claims = uses.len();
        let (level, stopped_by) = (vec![None; claims], vec![None; claims]);
        let left = named.iter().map(|row| left[*row]).collect();
        Filling { named, left, uses: flat, uses_from, users, users_from, weight, level, stopped_by }
    }

    fn rows_of(&self, claim: usize) -> &[(usize, f64)] {
        &self.uses[self.uses_from[claim]..self.uses_from[claim + 1]]
    }

    /// Takes `amps` for a claim, whether there is room or not.
    pub fn take(&mut self, claim: usize, amps: f64) {
        for use_at in self.uses_from[claim]..self.uses_from[claim + 1] {
            let (row, strength) = self.uses[use_at];
            self.left[row] -= strength * amps;
        }
    }

    /// Admits a claim at `least` if there is room for it.
    pub fn admit(&mut self, claim: usize, least: f64) {
        let lacks = |(row, strength): &&(usize, f64)| self.left[*row] + EPSILON < strength * least;
        match self.rows_of(claim).iter().find(lacks) {
            Some((row, _)) => self.stopped_by[claim] = Some(*row),
            None => {
                self.take(claim, least);
                self.level[claim] = Some(least);
            }
        }
    }

    /// What a claim has, and the row that stopped it.
    pub fn outcome(&self, claim: usize) -> (Option<f64>, Option<usize>) {
        (self.level[claim], self.stopped_by[claim].map(|row| self.named[row]))
    }

    /// Raises everybody admitted up to what is `enough` for them.
    pub fn rise(&mut self, enough: &[f64]) {
        let height = |amps: f64, claim: usize| amps / self.weight[claim];
        let mut begins: Vec<(f64, usize)> = Vec::with_capacity(enough.len());
        for (claim, level) in self.level.iter().enumerate() {
            if let Some(level) = level
                && level + EPSILON < enough[claim]
            {
                begins.push((height(*level, claim), claim));
            }
        }
        begins.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut ends: Vec<(f64, usize)> =
            begins.iter().map(|(_, claim)| (height(enough[*claim], *claim), *claim)).collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let Some((bottom, _)) = begins.first() else { return };
        let mut climb = Climb::new(enough.len(), self.left.len(), *bottom);
        let (mut begun, mut ended) = (0, 0);
        loop {
            while let Some((_, claim)) = begins.get(begun).filter(|b| b.0 <= climb.at + EPSILON) {
                self.set_out(*claim, &mut climb);
                begun += 1;
            }
            while let Some((_, claim)) = ends.get(ended).filter(|end| end.0 <= climb.at + EPSILON) {
                self.arrive(*claim, enough[*claim], None, &mut climb);
                ended += 1;
            }
            self.stop_at_full_rows(enough, &mut climb);
            let next_begin = begins.get(begun).map_or(f64::INFINITY, |begin| begin.0);
            if climb.count == 0 && next_begin.is_infinite() {
                break;
            }
            let next_end = ends.get(ended).map_or(f64::INFINITY, |end| end.0);
            let fills = climb.full_at.iter().fold(f64::INFINITY, |least, at| least.min(*at));
            climb.at = fills.min(next_begin).min(next_end).max(climb.at);
        }
    }

    /// What is left of a row at the height that is reached, and that from here on.
    fn reckon(&mut self, row: usize, climb: &mut Climb) -> f64 {
        if climb.risers[row] > 0 {
            self.left[row] -= climb.rate[row] * (climb.at - climb.since[row]);
        }
        climb.since[row] = climb.at;
        self.left[row]
    }

    fn set_out(&mut self, claim: usize, climb: &mut Climb) {
        let rows = self.uses_from[claim]..self.uses_from[claim + 1];
        for use_at in rows.clone() {
            let row = self.uses[use_at].0;
            if self.reckon(row, climb) <= EPSILON {
                self.stopped_by[claim] = Some(row);
                return;
            }
        }
        climb.rising[claim] = true;
        climb.count += 1;
        for use_at in rows {
            let (row, strength) = self.uses[use_at];
            climb.rate[row] += strength * self.weight[claim];
            climb.risers[row] += 1;
            climb.full_at[row] = climb.at + self.left[row] / climb.rate[row];
        }
    }

    fn arrive(&mut self, claim: usize, level: f64, row: Option<usize>, climb: &mut Climb) {
        if !std::mem::replace(&mut climb.rising[claim], false) {
            return;
        }
        climb.count -= 1;
        self.level[claim] = Some(level);
        self.stopped_by[claim] = row;
        for use_at in self.uses_from[claim]..self.uses_from[claim + 1] {
            let (row, strength) = self.uses[use_at];
            let left = self.reckon(row, climb);
            climb.risers[row] -= 1;
            if climb.risers[row] == 0 {
                (climb.rate[row], climb.full_at[row]) = (0.0, f64::INFINITY);
            } else {
                climb.rate[row] -= strength * self.weight[claim];
                climb.full_at[row] = climb.at + left / climb.rate[row];
            }
        }
    }

    fn stop_at_full_rows(&mut self, enough: &[f64], climb: &mut Climb) {
        for row in 0..self.left.len() {
            if !climb.is_full(row) {
                continue;
            }
            for user in self.users_from[row]..self.users_from[row + 1] {
                let claim = self.users[user];
                let reached = (climb.at * self.weight[claim]).min(enough[claim]);
                self.arrive(claim, reached, Some(row), climb);
            }
            // Exactly full, whatever rounding left of it.
            self.left[row] = self.left[row].min(0.0);
        }
    }
}
