//! Columns of text.

/// Lines of equally many cells, each column as wide as its widest cell, set to the right.
pub(crate) fn aligned<const COLUMNS: usize>(lines: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let line = |line: &[String; COLUMNS]| {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:>width$}")).collect();
        format!("{}\n", cells.join("  "))
    };
    lines.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let lines = [["a", "réseau"], ["123", "4"]].map(|line| line.map(str::to_owned));
        assert_eq!(aligned(&lines), "  a  réseau\n123       4\n");
        assert_eq!(aligned::<2>(&[]), "");
    }
}
