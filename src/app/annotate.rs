//! What was seen, drawn over the picture: bays by state, the frame's border by verdict, two bars for the
//! scores of flame and smoke.
//!
//! What a stranger gets wrong: the drawing is for people who set up cameras; nothing reads it back.

use super::vision::{BayPlace, Sight};
use crate::io::camera::Frame;
use crate::logic::vision::{BayState, Verdict};

type Colour = [u8; 3];
const GREEN: Colour = [40, 200, 80];
const RED: Colour = [230, 40, 40];
const AMBER: Colour = [240, 170, 30];
const GREY: Colour = [170, 170, 170];
const BLACK: Colour = [0, 0, 0];

/// Draws over the frame.
pub fn draw(frame: &mut Frame, bays: &[BayPlace], sight: &Sight) {
    let pen = (frame.width / 320).max(1);
    for place in bays {
        let state = sight.bays.iter().find(|look| look.id == place.id).map(|look| look.state);
        let colour = match state {
            Some(BayState::Free) => GREEN,
            Some(BayState::Occupied) => RED,
            _ => GREY,
        };
        for (i, from) in place.polygon.iter().enumerate() {
            let to = place.polygon[(i + 1) % place.polygon.len()];
            line(frame, *from, to, pen, colour);
        }
    }
    let border = match sight.verdict {
        Verdict::Clear => None,
        Verdict::Doubtful => Some(AMBER),
        Verdict::Alarm => Some(RED),
    };
    if let Some(colour) = border {
        let corners = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]];
        (0..4).for_each(|i| line(frame, corners[i], corners[(i + 1) % 4], pen * 4, colour));
    }
    bar(frame, (pen * 8, pen * 8), sight.fire, RED);
    bar(frame, (pen * 8, pen * 20), sight.smoke, GREY);
}

fn dot(frame: &mut Frame, x: usize, y: usize, colour: Colour) {
    let at = (y * frame.width + x) * 3;
    if x < frame.width
        && let Some(pixel) = frame.rgb.get_mut(at..at + 3)
    {
        pixel.copy_from_slice(&colour);
    }
}

/// A line between two points given as shares of the frame.
fn line(frame: &mut Frame, from: [f64; 2], to: [f64; 2], pen: usize, colour: Colour) {
    let (width, height) = (frame.width as f64, frame.height as f64);
    let [dx, dy] = [(to[0] - from[0]) * width, (to[1] - from[1]) * height];
    let steps = dx.abs().max(dy.abs()).ceil().clamp(1.0, 20_000.0);
    for step in 0..=steps as usize {
        let share = step as f64 / steps;
        let x = (from[0] * width + dx * share).max(0.0) as usize;
        let y = (from[1] * height + dy * share).max(0.0) as usize;
        for (right, down) in (0..pen * pen).map(|i| (i % pen, i / pen)) {
            let (x, y) =
                (x.min(frame.width.saturating_sub(pen)), y.min(frame.height.saturating_sub(pen)));
            dot(frame, x + right, y + down, colour);
        }
    }
}

/// A bar of a score, 0 to 1, a fifth of the frame long.
fn bar(frame: &mut Frame, (left, top): (usize, usize), score: f64, colour: Colour) {
    let (long, high) = (frame.width / 5, (frame.width / 320).max(1) * 8);
    let full = (score.clamp(0.0, 1.0) * long as f64) as usize;
    for (x, y) in (0..long * high).map(|i| (i % long, i / long)) {
        dot(frame, left + x, top + y, if x < full { colour } else { BLACK });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::site::Id;
    use crate::logic::vision::{BayLook, Stages, Tier};

    #[test]
    fn states_verdict_and_scores_are_drawn_and_odd_polygons_do_no_harm() {
        let mut frame = Frame { rgb: vec![60; 320 * 180 * 3], width: 320, height: 180 };
        let polygon = vec![[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]];
        let wild = vec![[-3.0, 0.5], [9.0, 2.0], [0.5, -1.0]];
        let place = |id: &str, polygon| BayPlace { id: Id::try_from(id).unwrap(), polygon };
        let bays = [place("a", polygon), place("b", wild)];
        let look =
            BayLook { id: Id::try_from("a").unwrap(), occupied: 0.9, state: BayState::Occupied };
        let sight = Sight {
            fire: 1.0,
            smoke: 0.0,
            verdict: Verdict::Doubtful,
            bays: vec![look],
            fault: None,
            tier: Tier::Small,
            at: std::time::Duration::ZERO,
            parts: Vec::new(),
            stages: Stages::default(),
        };
        draw(&mut frame, &bays, &sight);
        let pixel = |x: usize, y: usize| &frame.rgb[(y * 320 + x) * 3..][..3];
        assert_eq!(pixel(160, 45), RED);
        assert_eq!(pixel(0, 90), AMBER);
        assert_eq!(pixel(40, 10), RED, "the flame's bar is full");
        assert_eq!(pixel(40, 22), BLACK, "the smoke's is empty");
        assert_eq!(pixel(160, 90), [60; 3]);
    }
}
