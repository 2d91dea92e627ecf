//! Plots of measurements, as SVG.

use std::error::Error;

use plotters::{
    prelude::{
        ChartBuilder, Circle, IntoDrawingArea as _, IntoFont as _, IntoLogRange as _, LineSeries, PathElement,
        RGBColor, Rectangle, SVGBackend, SeriesLabelPosition, Text, WHITE,
    },
    style::{BLACK, Color as _},
};

use super::super::plot::PlotError;

const FONT: &str = "sans-serif";
const SIZE_PIXELS: (u32, u32) = (900, 420);
const COLORS: [RGBColor; 4] =
    [RGBColor(31, 100, 180), RGBColor(210, 110, 30), RGBColor(60, 150, 70), RGBColor(140, 80, 160)];
const GOAL: RGBColor = RGBColor(190, 30, 30);
/// Height of one bar and its gap, in pixels.
const BAR_PIXELS: u32 = 26;

/// A line with points.
#[derive(Debug, Clone)]
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// A bar that is to reach a mark.
#[derive(Debug, Clone)]
pub struct Bar {
    pub name: String,
    /// How good it is, by how good it is to be: 1 is the goal.
    pub share: f64,
}

/// Lines over something that grows by factors, from 0 upwards.
///
/// # Errors
/// If there is nothing to draw, or it cannot be drawn.
pub fn lines(title: &str, x: &str, y: &str, lines: &[Line]) -> Result<String, PlotError> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let (x_min, x_max) = points().fold((f64::MAX, 0.0_f64), |(min, max), point| (min.min(point.0), max.max(point.0)));
    let y_max = points().map(|point| point.1).fold(0.0, f64::max);
    if x_min >= x_max || y_max <= 0.0 || x_min <= 0.0 {
        return Err(PlotError::TooShort);
    }
    let mut text = String::new();
    draw_lines(&mut text, title, (x, x_min..x_max), (y, y_max * 1.08), lines)
        .map_err(|error| PlotError::Draw(error.to_string()))?;
    Ok(text)
}

fn draw_lines(
    text: &mut String,
    title: &str,
    (x, range): (&str, std::ops::Range<f64>),
    (y, y_max): (&str, f64),
    lines: &[Line],
) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::with_string(text, SIZE_PIXELS).into_drawing_area();
    root.fill(&WHITE).map_err(said)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, (FONT, 20).into_font())
        .margin(15)
        .x_label_area_size(45)
        .y_label_area_size(80)
        .build_cartesian_2d(range.log_scale(), 0.0..y_max)
        .map_err(said)?;
    chart
        .configure_mesh()
        .max_light_lines(1)
        .x_desc(x)
        .y_desc(y)
        .label_style((FONT, 14))
        .x_label_formatter(&|value| short(*value))
        .y_label_formatter(&|value| short(*value))
        .draw()
        .map_err(said)?;
    for (line, color) in lines.iter().zip(COLORS.iter().cycle()) {
        let drawn =
            chart.draw_series(LineSeries::new(line.points.iter().copied(), color.stroke_width(2))).map_err(said)?;
        drawn.label(&line.name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
        let dots = line.points.iter().map(|point| Circle::new(*point, 3, color.filled()));
        chart.draw_series(dots).map_err(said)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2))
        .label_font((FONT, 14))
        .draw()
        .map_err(said)?;
    root.present().map_err(said)?;
    Ok(())
}

/// How far each goal is reached: a bar that passes the mark has reached it.
///
/// # Errors
/// If there is nothing to draw, or it cannot be drawn.
pub fn goals(title: &str, bars: &[Bar]) -> Result<String, PlotError> {
    if bars.is_empty() {
        return Err(PlotError::TooShort);
    }
    let mut text = String::new();
    draw_goals(&mut text, title, bars).map_err(|error| PlotError::Draw(error.to_string()))?;
    Ok(text)
}

fn draw_goals(text: &mut String, title: &str, bars: &[Bar]) -> Result<(), Box<dyn Error>> {
    let count = u32::try_from(bars.len())?;
    let root = SVGBackend::with_string(text, (SIZE_PIXELS.0, 90 + count * BAR_PIXELS)).into_drawing_area();
    root.fill(&WHITE).map_err(said)?;
    // Powers of two to both sides of the goal.
    let reach = bars.iter().map(|bar| doublings(bar.share).abs()).fold(1.0, f64::max) + 0.3;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, (FONT, 18).into_font())
        .margin(15)
        .x_label_area_size(35)
        .y_label_area_size(330)
        .build_cartesian_2d(-reach..reach, 0.0..f64::from(count))
        .map_err(said)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(0)
        .max_light_lines(0)
        .label_style((FONT, 14))
        .x_label_formatter(&|value| power(*value))
        .draw()
        .map_err(said)?;
    for (row, bar) in bars.iter().enumerate() {
        let y = f64::from(count) - f64::from(u32::try_from(row)?);
        let color = COLORS.get(usize::from(bar.share < 1.0)).copied().unwrap_or(GOAL);
        let corners = [(0.0, y - 0.85), (doublings(bar.share), y - 0.15)];
        chart.draw_series([Rectangle::new(corners, color.filled())]).map_err(said)?;
        let (_, height) = root.dim_in_pixel();
        let top = i32::try_from(height)? - 60 - i32::try_from((count - u32::try_from(row)?) * BAR_PIXELS)?;
        root.draw(&Text::new(bar.name.clone(), (15, top + 14), (FONT, 14).into_font())).map_err(said)?;
    }
    let mark = [(0.0, 0.0), (0.0, f64::from(count))];
    chart.draw_series([PathElement::new(mark, GOAL.stroke_width(2))]).map_err(said)?;
    root.present().map_err(said)?;
    Ok(())
}

/// The error of a drawing, which borrows from what is drawn on.
fn said(error: impl Error) -> String {
    error.to_string()
}

/// 2 to a power, as a fraction below 1.
fn power(doublings: f64) -> String {
    if doublings < 0.0 { format!("1/{:.0}", (-doublings).exp2()) } else { format!("{:.0}", doublings.exp2()) }
}

fn doublings(share: f64) -> f64 {
    share.max(1e-3).log2()
}

fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} M", trimmed(value / 1e6)),
        value if value >= 1e4 => format!("{} k", trimmed(value / 1e3)),
        value => trimmed(value),
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_is_drawn() {
        let line = |name: &str| Line { name: name.to_owned(), points: vec![(1.0, 2.0), (100.0, 3.0)] };
        let svg = lines("growth", "nodes", "µs", &[line("ours"), line("theirs")]).unwrap();
        assert!(svg.contains("ours") && svg.contains("theirs") && svg.ends_with("</svg>\n"));
        assert!(lines("growth", "nodes", "µs", &[]).is_err());
        let svg =
            goals("goals", &[Bar { name: "direct".into(), share: 1.2 }, Bar { name: "spread".into(), share: 0.0 }]);
        assert!(svg.unwrap().contains("direct"));
        assert_eq!([-2.0, 0.0, 3.0].map(power), ["1/4", "1", "8"]);
        assert_eq!([0.5, 20_000.0, 1_500_000.0].map(short), ["0.5", "20 k", "1.5 M"]);
    }
}
