//! Aligned columns of text for people.

use std::fmt;

/// The space between two columns.
const GAP: &str = "  ";

/// A table with a heading. Columns are as wide as their widest cell; numbers are aligned to the right by their column.
#[derive(Debug)]
pub(super) struct TextTable<const N: usize> {
    rows: Vec<[String; N]>,
    right: [bool; N],
}

impl<const N: usize> TextTable<N> {
    /// A table with headings; those that begin with `#` head a column of numbers and lose the sign.
    pub(super) fn new(headings: [&str; N]) -> Self {
        let right = headings.map(|heading| heading.starts_with('#'));
        Self { rows: vec![headings.map(|heading| heading.trim_start_matches('#').to_owned())], right }
    }

    /// Adds a row. Control characters are shown as `?`, so that no text from elsewhere can steer the terminal.
    pub(super) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| cell.replace(char::is_control, "?")));
    }
}

impl<const N: usize> fmt::Display for TextTable<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &self.rows {
            let cells: Vec<String> = (row.iter().zip(widths).zip(self.right))
                .map(|((cell, width), right)| if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") })
                .collect();
            writeln!(f, "{}", cells.join(GAP).trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_without_spaces() {
        let mut table = TextTable::new(["NAME", "#COUNT", "NOTE"]);
        table.row(["a".to_owned(), "12345678".to_owned(), String::new()]);
        table.row(["longer".to_owned(), "7".to_owned(), "\u{e9}t\u{e9}".to_owned()]);
        assert_eq!(table.to_string(), "NAME       COUNT  NOTE\na       12345678\nlonger         7  \u{e9}t\u{e9}\n");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let mut table = TextTable::new(["NAME"]);
        table.row(["a\u{1b}[2J\nb".to_owned()]);
        assert_eq!(table.to_string(), "NAME\na?[2J?b\n");
    }
}
