//! Small charts as SVG, drawn here: bars for what came in, and above them for what went out. No script, no style of
//! their own; the numbers stand beside them as text.

use crate::observe::traffic::Traffic;
use std::fmt::Write as _;

/// The height of each half, in units of the picture.
const HALF: u64 = 36;
/// The width of a bar and the gap after it.
const STEP: usize = 6;

/// A chart of so many bars, the newest at the right; those that are missing at the left are empty.
pub(super) fn bars(traffic: &[Traffic], bars: usize, title: &str) -> String {
    let most = traffic.iter().map(|one| one.accepted.max(one.delivered)).max().unwrap_or(0).max(1);
    let height = |count: u64| (count * HALF).div_ceil(most);
    let (width, empty) = (bars * STEP, bars.saturating_sub(traffic.len()));
    let mut svg = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {width} {}\" role=\"img\" aria-label=\"{}\" preserveAspectRatio=\"none\">",
        2 * HALF + 1,
        askama::filters::escape(title, askama::filters::Html).map(|text| text.to_string()).unwrap_or_default(),
    );
    for (nth, one) in traffic.iter().enumerate() {
        let x = (nth + empty) * STEP;
        let (inward, outward) = (height(one.accepted), height(one.delivered));
        let _ = write!(
            svg,
            "<rect class=\"in\" x=\"{x}\" y=\"{}\" width=\"4\" height=\"{inward}\"/>\
             <rect class=\"out\" x=\"{x}\" y=\"{}\" width=\"4\" height=\"{outward}\"/>",
            HALF - inward,
            HALF + 1,
        );
    }
    let _ = write!(svg, "<line class=\"axis\" x1=\"0\" y1=\"{HALF}\" x2=\"{width}\" y2=\"{HALF}\"/></svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stay_within_the_picture_and_what_names_them_is_text() {
        let traffic =
            [(0, 0), (1, 1_000_000), (u64::MAX / 64, 3)].map(|(accepted, delivered)| Traffic { accepted, delivered });
        let svg = bars(&traffic, 60, "<in> & \"out\"");
        assert_eq!(svg.matches("<rect").count(), 6);
        assert!(svg.contains("aria-label=\"&#60;in&#62; &#38; &#34;out&#34;\""), "{svg}");
        assert!(!svg.contains("style=") && svg.contains(&format!("height=\"{HALF}\"")), "{svg}");
        assert!(bars(&[], 24, "none").ends_with("</svg>"));
    }
}
