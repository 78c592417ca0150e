//! Colours and tables: how text is set, whatever it says.
//!
//! Input is text with a [`Tone`], output is text for a terminal or a pipe.
//! *Invariant:* no module but this one writes an escape sequence, and none at all when colours are off.

use anstyle::{AnsiColor, Color};
use comfy_table::{
    Attribute, Cell as Set, ColumnConstraint, ContentArrangement, Table, Width, presets,
};

/// What a piece of text means to the reader; the colour follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing special.
    Plain,
    /// A heading or a name.
    Strong,
    /// As it should be.
    Good,
    /// On its way, or worth a look.
    Warn,
    /// Wrong.
    Bad,
    /// Less important than its neighbours.
    Faint,
    /// A place in a diff.
    Place,
}

/// Whether colours are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) colour: bool,
}

impl Style {
    /// `text` in the colour of `tone`.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let style = anstyle::Style::new();
        let style = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Strong => style.bold(),
            Tone::Good => style.fg_color(Some(Color::Ansi(AnsiColor::Green))),
            Tone::Warn => style.fg_color(Some(Color::Ansi(AnsiColor::Yellow))),
            Tone::Bad => style.fg_color(Some(Color::Ansi(AnsiColor::Red))),
            Tone::Faint => style.dimmed(),
            Tone::Place => style.fg_color(Some(Color::Ansi(AnsiColor::Cyan))),
        };
        format!("{style}{text}{style:#}")
    }

    /// Rows under a header, in columns three spaces apart, as `kubectl` sets them. Ends with a line break; no rows, no text.
    pub(crate) fn table<H: AsRef<str>>(self, header: &[H], rows: Vec<Vec<Cell>>) -> String {
        if rows.is_empty() {
            String::new()
        } else {
            self.continued(Some(header), rows, &mut Widths::default())
        }
    }

    /// Rows that continue a table that was begun with the same `widths`, so that columns stay where they were.
    pub(crate) fn continued<H: AsRef<str>>(
        self,
        header: Option<&[H]>,
        rows: Vec<Vec<Cell>>,
        widths: &mut Widths,
    ) -> String {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        if self.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        if let Some(header) = header {
            table.set_header(
                header
                    .iter()
                    .map(|h| Set::new(h.as_ref()).add_attribute(Attribute::Bold)),
            );
        }
        table.add_rows(
            rows.into_iter()
                .map(|row| row.into_iter().map(Cell::set).collect::<Vec<_>>()),
        );
        let wanted = table.column_max_content_widths();
        widths.0.resize(wanted.len().max(widths.0.len()), 0);
        for (index, (column, wanted)) in table.column_iter_mut().zip(wanted).enumerate() {
            widths.0[index] = widths.0[index].max(wanted);
            column.set_padding((0, GAP));
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(
                widths.0[index] + GAP,
            )));
        }
        let lines: Vec<String> = table
            .lines()
            .map(|l| l.trim_end().to_owned() + "\n")
            .collect();
        lines.concat()
    }
}

/// Blanks between columns.
const GAP: u16 = 3;

/// How wide the columns of a table have become that is written piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Widths(Vec<u16>);

impl Widths {
    /// Of a table whose first column may come to hold this text.
    pub(crate) fn with_first(text: &str) -> Self {
        Self(vec![u16::try_from(text.len()).unwrap_or(u16::MAX)])
    }
}

/// One cell of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell whose tone says more than its text.
    pub(crate) fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            tone,
        }
    }

    /// The text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    fn set(self) -> Set {
        // One row is one line, whatever a server puts into a cell.
        let text: String = self
            .text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let cell = Set::new(text);
        match self.tone {
            Tone::Plain => cell,
            Tone::Strong => cell.add_attribute(Attribute::Bold),
            Tone::Good => cell.fg(comfy_table::Color::Green),
            Tone::Warn => cell.fg(comfy_table::Color::Yellow),
            Tone::Bad => cell.fg(comfy_table::Color::Red),
            Tone::Faint => cell.add_attribute(Attribute::Dim),
            Tone::Place => cell.fg(comfy_table::Color::Cyan),
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(Tone::Plain, text)
    }
}

#[cfg(test)]
mod tests;
