//! Weighted max-min filling of a set of limits: everybody rises together, in proportion to their
//! weights, until a limit is full or they have enough. Exact: it goes from event to event, not in steps.
//!
//! What a stranger gets wrong: a row is one limit (a phase of a circuit, or its power); who uses it and
//! how strongly stands in `uses`. A user that starts high waits until the others have come up to it.

/// Far below the resolution of any charger; absorbs rounding of the sums.
pub(super) const EPSILON: f64 = 1e-9;

/// The limits and who has risen how far.
pub(super) struct Filling {
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

/// One claim's way up in one rise.
struct Climb {
    /// Who rises now.
    rising: Vec<bool>,
    /// How fast each row is filled, and by how many.
    rate: Vec<(f64, usize)>,
    count: usize,
}

impl Filling {
    /// `uses` gives for each claim its rows and how much an ampere takes of each; a row without a bound
    /// is infinite.
    pub fn new(left: Vec<f64>, uses: &[Vec<(usize, f64)>], weight: Vec<f64>) -> Filling {
        let rows = left.len();
        let (mut flat, mut uses_from) = (Vec::with_capacity(uses.len() * 8), vec![0]);
        let mut users_from = vec![0; rows + 1];
        for own in uses {
            let bounded = own.iter().filter(|(row, _)| left[*row].is_finite());
            flat.extend(bounded);
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
        Filling { left, uses: flat, uses_from, users, users_from, weight, level, stopped_by }
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
        (self.level[claim], self.stopped_by[claim])
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
        let mut climb = Climb {
            rising: vec![false; enough.len()],
            rate: vec![(0.0, 0); self.left.len()],
            count: 0,
        };
        let (mut begun, mut ended) = (0, 0);
        let mut at = begins.first().map_or(0.0, |first| first.0);
        loop {
            while let Some((_, claim)) = begins.get(begun).filter(|b| b.0 <= at + EPSILON) {
                self.set_out(*claim, &mut climb);
                begun += 1;
            }
            while let Some((_, claim)) = ends.get(ended).filter(|end| end.0 <= at + EPSILON) {
                self.arrive(*claim, enough[*claim], None, &mut climb);
                ended += 1;
            }
            self.stop_at_full_rows(at, enough, &mut climb);
            let next_begin = begins.get(begun).map_or(f64::INFINITY, |begin| begin.0);
            if climb.count == 0 && next_begin.is_infinite() {
                return;
            }
            let next_end = ends.get(ended).map_or(f64::INFINITY, |end| end.0);
            let (fills, row) = self.next_full(at, &climb);
            let next = fills.min(next_begin).min(next_end).max(at);
            let step = next - at;
            for (left, (rate, _)) in self.left.iter_mut().zip(&climb.rate) {
                if *rate > 0.0 {
                    *left -= rate * step;
                }
            }
            // Exactly full, whatever rounding left of it: so every turn of the loop has its event.
            if let Some(row) = row.filter(|_| fills <= next) {
                self.left[row] = self.left[row].min(0.0);
            }
            at = next;
        }
    }

    fn set_out(&mut self, claim: usize, climb: &mut Climb) {
        if let Some((row, _)) =
            self.rows_of(claim).iter().find(|(row, _)| self.left[*row] <= EPSILON)
        {
            self.stopped_by[claim] = Some(*row);
            return;
        }
        climb.rising[claim] = true;
        climb.count += 1;
        for (row, strength) in self.rows_of(claim) {
            let rate = &mut climb.rate[*row];
            *rate = (rate.0 + strength * self.weight[claim], rate.1 + 1);
        }
    }

    fn arrive(&mut self, claim: usize, level: f64, row: Option<usize>, climb: &mut Climb) {
        if !std::mem::replace(&mut climb.rising[claim], false) {
            return;
        }
        climb.count -= 1;
        self.level[claim] = Some(level);
        self.stopped_by[claim] = row;
        for (row, strength) in self.rows_of(claim) {
            let (rate, users) = climb.rate[*row];
            let rate = if users <= 1 { 0.0 } else { rate - strength * self.weight[claim] };
            climb.rate[*row] = (rate, users.saturating_sub(1));
        }
    }

    fn stop_at_full_rows(&mut self, at: f64, enough: &[f64], climb: &mut Climb) {
        for row in 0..self.left.len() {
            if climb.rate[row].1 == 0 || self.left[row] > EPSILON {
                continue;
            }
            for user in self.users_from[row]..self.users_from[row + 1] {
                let claim = self.users[user];
                let reached = (at * self.weight[claim]).min(enough[claim]);
                self.arrive(claim, reached, Some(row), climb);
            }
        }
    }

    /// When the next row is full, and which.
    fn next_full(&self, at: f64, climb: &Climb) -> (f64, Option<usize>) {
        let mut next = (f64::INFINITY, None);
        for (row, (left, (rate, users))) in self.left.iter().zip(&climb.rate).enumerate() {
            if *users > 0 && *rate > 0.0 {
                let full = at + left / rate;
                if full < next.0 {
                    next = (full, Some(row));
                }
            }
        }
        next
    }
}
