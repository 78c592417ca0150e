#![allow(clippy::unwrap_used)]
use super::*;

fn rows() -> Vec<Vec<Cell>> {
    vec![
        vec!["reviews".into(), Cell::toned(Tone::Bad, "NACK"), "".into()],
        vec![
            "a-much-longer-name".into(),
            Cell::toned(Tone::Good, "SYNCED"),
            "two\nlines".into(),
        ],
    ]
}

#[test]
fn a_table_for_a_pipe_has_aligned_columns_and_no_escapes() {
    let text = Style { colour: false }.table(&["NAME", "CDS", "WHY"], rows());
    insta::assert_snapshot!(text);
    assert!(
        text.lines().all(|l| l == l.trim_end()),
        "no trailing blanks: {text:?}"
    );
}

#[test]
fn a_table_for_a_terminal_colours_by_tone() {
    let text = Style { colour: true }.table(&["NAME", "CDS", "WHY"], rows());
    assert!(
        text.contains("\u{1b}[38;5;9mNACK") && text.contains("\u{1b}[38;5;10mSYNCED"),
        "{text:?}"
    );
}

#[test]
fn no_rows_no_header() {
    assert_eq!(Style { colour: true }.table(&["NAME"], vec![]), "");
}

#[test]
fn paint_is_the_identity_without_colour() {
    assert_eq!(Style { colour: false }.paint(Tone::Bad, "x"), "x");
    assert_eq!(
        Style { colour: true }.paint(Tone::Bad, "x"),
        "\u{1b}[31mx\u{1b}[0m"
    );
}

#[test]
fn a_continued_table_keeps_its_columns() {
    let (style, mut widths) = (Style { colour: false }, Widths::default());
    let mut text = style.continued(
        Some(&["NAME", "AGE"]),
        vec![vec!["a-long-name".into(), "1s".into()]],
        &mut widths,
    );
    text += &style.continued::<&str>(None, vec![vec!["b".into(), "2s".into()]], &mut widths);
    assert_eq!(
        text,
        "NAME          AGE\na-long-name   1s\nb             2s\n"
    );
}
