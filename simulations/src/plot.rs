//! Plots of swarm reports, as SVG by hand.

use std::fmt::Write as _;

use crate::report::SwarmReport;

const PANEL_WIDTH: f64 = 420.0;
const PANEL_HEIGHT: f64 = 260.0;
const MARGIN_LEFT: f64 = 56.0;
const MARGIN_TOP: f64 = 44.0;
const MARGIN_BOTTOM: f64 = 34.0;
const COLOURS: [&str; 4] = ["#4c78a8", "#f58518", "#e45756", "#72b7b2"];

/// A name, and its figure in a report.
type Series<'a> = (&'a str, fn(&SwarmReport) -> f64);

/// A panel of grouped bars: one group for each swarm, one bar for each series.
struct Panel<'a> {
    title: &'a str,
    series: Vec<Series<'a>>,
}

/// Panels side by side, two in a row.
#[must_use]
pub fn svg(reports: &[SwarmReport]) -> String {
    let mut panels = vec![
        Panel {
            title: "Lookup: hops",
            series: vec![
                ("p50", |r| r.lookups.hops.p50),
                ("p99", |r| r.lookups.hops.p99),
                ("max", |r| r.hops_max()),
                ("log2 n", |r| r.hops_limit()),
            ],
        },
        Panel { title: "Lookup: ms", series: vec![("p50", |r| r.lookups.ms.p50), ("p99", |r| r.lookups.ms.p99)] },
        Panel {
            title: "Join, until known to its neighbours: ms",
            series: vec![
                ("p50", |r| r.join.known_ms.p50),
                ("p99", |r| r.join.known_ms.p99),
                ("all", |r| r.join.all_ms),
            ],
        },
        Panel {
            title: "Gossip: ms",
            series: vec![
                ("p50", |r| r.gossip.ms.p50),
                ("p99", |r| r.gossip.ms.p99),
                ("last node, p50", |r| r.gossip.last_ms.p50),
                ("last node, max", |r| r.gossip.last_ms.max),
            ],
        },
    ];
    if reports.iter().any(|report| report.churn.is_some()) {
        panels.push(Panel {
            title: "Lookups found: %",
            series: vec![
                ("calm", |r| percent(r.lookups.found, r.lookups.made)),
                ("churn", |r| r.churn.as_ref().map_or(0.0, |c| percent(c.lookups.found, c.lookups.made))),
                ("routes, healed", |r| r.churn.as_ref().map_or(0.0, |c| percent(c.resolve.right, c.resolve.routes))),
            ],
        });
        panels.push(Panel {
            title: "Lookup under churn: hops",
            series: vec![
                ("p50", |r| r.churn.as_ref().map_or(0.0, |c| c.lookups.hops.p50)),
                ("p99", |r| r.churn.as_ref().map_or(0.0, |c| c.lookups.hops.p99)),
                ("max", |r| r.churn.as_ref().map_or(0.0, |c| c.lookups.hops.max)),
                ("log2 n", |r| r.hops_limit()),
            ],
        });
    }
    let (width, height) = (2.0 * PANEL_WIDTH, panels.len().div_ceil(2) as f64 * PANEL_HEIGHT);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (at, panel) in panels.iter().enumerate() {
        let (x, y) = ((at % 2) as f64 * PANEL_WIDTH, (at / 2) as f64 * PANEL_HEIGHT);
        let _ = writeln!(out, "<g transform=\"translate({x} {y})\">");
        draw(&mut out, panel, reports);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn draw(out: &mut String, panel: &Panel<'_>, reports: &[SwarmReport]) {
    let (plot_width, plot_height) = (PANEL_WIDTH - MARGIN_LEFT - 16.0, PANEL_HEIGHT - MARGIN_TOP - MARGIN_BOTTOM);
    let values = || reports.iter().flat_map(|report| panel.series.iter().map(move |(_, figure)| figure(report)));
    let top = round_up(values().fold(0.0, f64::max));
    let height_of = |value: f64| value / top * plot_height;
    let bottom = MARGIN_TOP + plot_height;
    let _ = writeln!(
        out,
        "<text x=\"{MARGIN_LEFT}\" y=\"18\" font-size=\"13\" font-weight=\"bold\">{}</text>",
        panel.title
    );
    for line in 0..=4 {
        let value = top * f64::from(line) / 4.0;
        let (y, right) = (bottom - height_of(value), MARGIN_LEFT + plot_width);
        let _ =
            writeln!(out, "<line x1=\"{MARGIN_LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>");
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            MARGIN_LEFT - 5.0,
            y + 4.0,
            short(value)
        );
    }
    let group_width = plot_width / reports.len().max(1) as f64;
    let bar_width = (group_width * 0.8 / panel.series.len() as f64).min(40.0);
    for (group, report) in reports.iter().enumerate() {
        let middle = MARGIN_LEFT + (group as f64 + 0.5) * group_width;
        let left = middle - bar_width * panel.series.len() as f64 / 2.0;
        for (at, (name, figure)) in panel.series.iter().enumerate() {
            let (value, colour) = (figure(report), COLOURS[at % COLOURS.len()]);
            let (x, height) = (left + at as f64 * bar_width, height_of(value));
            let _ = writeln!(
                out,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"{colour}\">\
                 <title>{} nodes, {name}: {}</title></rect>",
                bottom - height,
                bar_width - 1.0,
                report.nodes,
                short(value)
            );
        }
        let _ = writeln!(
            out,
            "<text x=\"{middle:.1}\" y=\"{}\" text-anchor=\"middle\">{} nodes</text>",
            bottom + 15.0,
            report.nodes
        );
    }
    let mut x = MARGIN_LEFT;
    for (at, (name, _)) in panel.series.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let _ = writeln!(out, "<rect x=\"{x}\" y=\"27\" width=\"9\" height=\"9\" fill=\"{colour}\"/>");
        let _ = writeln!(out, "<text x=\"{}\" y=\"35\">{name}</text>", x + 13.0);
        x += 28.0 + 6.5 * name.len() as f64;
    }
}

fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// The next 1, 2, 4, 5, 8 or 10 times a power of ten, so that quarters are short.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 5.0, 8.0, 10.0];
    power * steps.into_iter().find(|step| step * power >= value * 0.999_999).unwrap_or(10.0)
}

fn short(value: f64) -> String {
    if value >= 100.0 || value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Churn;
    use crate::stats::Summary;

    #[test]
    fn every_swarm_has_a_bar_in_every_series() {
        let mut report = SwarmReport { nodes: 25, churn: Some(Churn::default()), ..SwarmReport::default() };
        report.lookups.hops = Summary::of([0.0, 1.0, 2.0]);
        let svg = svg(&[report.clone(), SwarmReport { nodes: 50, ..report }]);
        assert_eq!(svg.matches("<title>").count(), 2 * (4 + 2 + 3 + 4 + 3 + 4));
        assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count());
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn axes_end_at_round_numbers() {
        for (value, top) in [(0.0, 1.0), (1.0, 1.0), (3.2, 4.0), (7.6, 8.0), (93.0, 100.0), (0.011, 0.02)] {
            assert!((round_up(value) - top).abs() < 1e-9, "{value}: {}", round_up(value));
        }
    }
}
