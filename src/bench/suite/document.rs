//! The document: prose that is written once, in a template, and sections of figures that the commands fill. What a
//! command does not measure stays as it was.

use std::{collections::BTreeMap, fs, path::Path};

use super::SuiteError;

/// The prose. `{{NAME}}` on a line of its own is the place of a section.
const TEMPLATE: &str = include_str!("benchmarks.md");
const NOT_MEASURED: &str = "*Not measured yet.*";

/// What a command has measured.
#[derive(Debug, Default)]
pub struct Sections {
    /// Markdown, by the section's name.
    pub texts: BTreeMap<&'static str, String>,
    /// SVG, by the end of the file's name.
    pub plots: BTreeMap<String, String>,
}

/// Writes the document and its plots.
///
/// # Errors
/// If a file cannot be written.
pub fn write(out: &Path, sections: &Sections) -> Result<(), SuiteError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| SuiteError::Write { path, error }
    };
    // Where there is none yet, there is nothing to keep.
    let before = fs::read_to_string(out).unwrap_or_default();
    if let Some(folder) = out.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(failed(folder))?;
    }
    for (name, svg) in &sections.plots {
        let path = out.with_file_name(plot_name(out, name));
        fs::write(&path, svg).map_err(failed(&path))?;
    }
    fs::write(out, filled(&before, &sections.texts)).map_err(failed(out))
}

/// The file name of a plot beside the document.
#[must_use]
pub fn plot_name(out: &Path, name: &str) -> String {
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    format!("{stem}-{name}.svg")
}

fn filled(before: &str, sections: &BTreeMap<&'static str, String>) -> String {
    let mut text = String::new();
    for line in TEMPLATE.lines() {
        match line.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")) {
            None => text.push_str(line),
            Some(name) => {
                let (begin, end) = (begin(name), end(name));
                let kept = before.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end)).map(|(kept, _)| kept);
                let section = sections.get(name).map(String::as_str).or(kept).unwrap_or(NOT_MEASURED).trim();
                text.push_str(&format!("{begin}\n{section}\n{end}"));
            }
        }
        text.push('\n');
    }
    text
}

fn begin(name: &str) -> String {
    format!("<!-- {name}: written by the command -->")
}

fn end(name: &str) -> String {
    format!("<!-- end of {name} -->")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_prose_of_the_template() {
        let document = include_str!("../../../docs/benchmarks.md");
        assert_eq!(filled(document, &BTreeMap::new()), document);
    }

    #[test]
    fn a_command_replaces_its_own_section_only() {
        let first = filled("", &BTreeMap::from([("compare", "one".to_owned()), ("cuts", "two".to_owned())]));
        assert!(first.contains("one") && first.contains("two") && first.contains(NOT_MEASURED));
        let second = filled(&first, &BTreeMap::from([("compare", "three".to_owned())]));
        assert!(second.contains("three") && second.contains("two") && !second.contains("\none\n"));
        assert_eq!(filled(&second, &BTreeMap::new()), second);
    }

    #[test]
    fn every_section_has_its_place() {
        for name in ["compare", "failover", "cuts", "growth-nodes", "growth-clients", "growth-sizes", "growth-entries"]
        {
            assert!(TEMPLATE.contains(&format!("\n{{{{{name}}}}}\n")), "{name}");
        }
    }
}
