//! What the people in the building do at which hour of the day.

/// Share of the late morning's building load at an hour of the day: little at night, most in the evening.
pub fn use_of_hour(hour: f64) -> f64 {
    const CURVE: [(f64, f64); 8] = [
        (0.0, 0.5),
        (5.0, 0.45),
        (8.0, 1.1),
        (10.5, 1.0),
        (13.0, 1.2),
        (16.0, 1.0),
        (19.5, 1.8),
        (24.0, 0.5),
    ];
    let after = CURVE.iter().position(|(at, _)| *at > hour).unwrap_or(CURVE.len() - 1).max(1);
    let ((h0, v0), (h1, v1)) = (CURVE[after - 1], CURVE[after]);
    v0 + (v1 - v0) * ((hour - h0) / (h1 - h0)).clamp(0.0, 1.0)
}
