//! The plot of a report, as SVG.

use std::{error::Error, fs, io, path::Path};

use plotters::prelude::{ChartBuilder, IntoDrawingArea as _, IntoFont as _, LineSeries, RGBColor, SVGBackend, WHITE};

use super::report::Report;

const SIZE_PIXELS: (u32, u32) = (900, 500);
const LINE: RGBColor = RGBColor(31, 100, 180);
const FONT: &str = "sans-serif";
/// Largest number of nines in a percentile that is drawn: 99.9999.
const MAX_NINES: f64 = 6.0;

/// Why there is no plot.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    #[error("the run was too short for a curve; let it take longer")]
    TooShort,
    #[error("it cannot be drawn: {0}")]
    Draw(String),
    #[error(transparent)]
    Write(#[from] io::Error),
}

/// Draws the report's series into a file.
///
/// # Errors
/// If there is too little to draw, or the file cannot be written.
pub fn write(path: &Path, report: &Report) -> Result<(), PlotError> {
    Ok(fs::write(path, svg(report)?)?)
}

fn svg(report: &Report) -> Result<String, PlotError> {
    let series = &report.series;
    let x = |value: f64| if series.is_percentile { nines(value) } else { value };
    let points: Vec<(f64, f64)> = series.points.iter().map(|point| (x(point.0), point.1)).collect();
    if points.len() < 2 {
        return Err(PlotError::TooShort);
    }
    let max = |values: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(values).fold(f64::MIN_POSITIVE, f64::max);
    let title =
        format!("clique bench {}: {} {}, {} nodes", report.workload, report.target, report.dialect, report.nodes.len());
    let mut text = String::new();
    draw(&mut text, &title, report, &points, (max(&|point| point.0), max(&|point| point.1) * 1.05))
        .map_err(|error| PlotError::Draw(error.to_string()))?;
    Ok(text)
}

fn draw(
    text: &mut String,
    title: &str,
    report: &Report,
    points: &[(f64, f64)],
    (x_max, y_max): (f64, f64),
) -> Result<(), Box<dyn Error>> {
    let series = &report.series;
    let root = SVGBackend::with_string(text, SIZE_PIXELS).into_drawing_area();
    root.fill(&WHITE).map_err(|error| error.to_string())?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, (FONT, 20).into_font())
        .margin(15)
        .x_label_area_size(45)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..x_max, 0.0..y_max)
        .map_err(|error| error.to_string())?;
    let x_label = |value: &f64| if series.is_percentile { percentile(*value) } else { number(*value) };
    chart
        .configure_mesh()
        .max_light_lines(1)
        .x_desc(series.x)
        .y_desc(series.y)
        .label_style((FONT, 14))
        .x_label_formatter(&x_label)
        .y_label_formatter(&|value| number(*value))
        .draw()
        .map_err(|error| error.to_string())?;
    chart.draw_series(LineSeries::new(points.iter().copied(), &LINE)).map_err(|error| error.to_string())?;
    root.present().map_err(|error| error.to_string())?;
    Ok(())
}

/// 90 % → 1, 99 % → 2, 99.9 % → 3.
fn nines(percentile: f64) -> f64 {
    (-(1.0 - percentile / 100.0).log10()).clamp(0.0, MAX_NINES)
}

fn percentile(nines: f64) -> String {
    let percentile = 100.0 * (1.0 - 10_f64.powf(-nines));
    let decimals = (nines - 1.0).ceil().clamp(0.0, MAX_NINES) as usize;
    format!("{percentile:.decimals$} %")
}

fn number(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.2} M", value / 1e6),
        value if value >= 1e4 => format!("{:.0} k", value / 1e3),
        value if value >= 10.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_of_percentiles_gives_room_to_the_last_ones() {
        assert!((nines(90.0) - 1.0).abs() < 1e-9 && (nines(99.9) - 3.0).abs() < 1e-9);
        assert_eq!(nines(100.0), MAX_NINES);
        assert_eq!([0.0, 1.0, 2.0, 3.0].map(percentile), ["0 %", "90 %", "99.0 %", "99.90 %"]);
        assert_eq!([2_500_000.0, 25_000.0, 250.0, 2.5].map(number), ["2.50 M", "25 k", "250", "2.5"]);
    }
}
