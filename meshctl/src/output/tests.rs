use super::*;

#[test]
fn colours_follow_the_flag_then_the_environment_then_the_terminal() {
    let cases = [
        (Colour::Auto, true, None, Some("xterm"), true),
        (Colour::Auto, true, Some(""), Some("xterm"), true),
        (Colour::Auto, true, Some("1"), Some("xterm"), false),
        (Colour::Auto, true, None, Some("dumb"), false),
        (Colour::Auto, false, None, Some("xterm"), false),
        (Colour::Always, false, Some("1"), Some("dumb"), true),
        (Colour::Never, true, None, Some("xterm"), false),
    ];
    for (colour, terminal, no_color, term, want) in cases {
        assert_eq!(
            colour.on(terminal, no_color, term),
            want,
            "{colour:?} {terminal} {no_color:?} {term:?}"
        );
    }
}
