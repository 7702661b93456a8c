//! Patterns of image names as Go's `path.Match` has them: `*` and `?` stand for anything but `/`, `[a-c]` and `[^a]` for
//! one of several, and `\\` takes what follows as it is.

/// Whether the whole text is as the pattern says. A pattern that is none matches nothing.
pub(super) fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Behind the last star, and up to where it reaches. Earlier ones need not move: none can pass a `/` either.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, t));
        } else if p == pattern.len() && t == text.len() {
            return true;
        } else if let Some(length) = text.get(t).and_then(|byte| one(&pattern[p..], *byte)) {
            (p, t) = (p + length, t + 1);
        } else if let Some((behind, end)) = star
            && text.get(end).is_some_and(|byte| *byte != b'/')
        {
            star = Some((behind, end + 1));
            (p, t) = (behind, end + 1);
        } else {
            return false;
        }
    }
}

/// How much of the pattern stands for this byte.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => (byte != b'/').then_some(1),
        [b'[', class @ ..] => one_of(class, byte).map(|length| length + 1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [plain, ..] => (*plain == byte).then_some(1),
        [] => None,
    }
}

/// The length of a class, to its end, that has this byte.
fn one_of(class: &[u8], byte: u8) -> Option<usize> {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let (mut found, start) = (false, at);
    while at == start || *class.get(at)? != b']' {
        let low = member(class, &mut at)?;
        let mut high = low;
        if class.get(at) == Some(&b'-') {
            at += 1;
            high = member(class, &mut at)?;
        }
        found |= (low..=high).contains(&byte);
    }
    (found != negated).then_some(at + 1)
}

/// One byte of a class; `-` and `]` only behind a `\`.
fn member(class: &[u8], at: &mut usize) -> Option<u8> {
    let (length, member) = match class.get(*at..)? {
        [b'\\', escaped, ..] => (2, *escaped),
        [b'-' | b']', ..] | [] => return None,
        [plain, ..] => (1, *plain),
    };
    *at += length;
    Some(member)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_are_gos() {
        for (pattern, text) in [
            ("a*c", "abbc"),
            ("*a*b*", "xaxbx"),
            ("*/*b", "a/ab"),
            ("[a-c]x[^a-c]", "bxd"),
            ("[^\\-x]", "y"),
            ("\\*", "*"),
            ("[\\]]", "]"),
            ("", ""),
        ] {
            assert!(glob(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("*", "a/b"),
            ("a?b", "a/b"),
            ("[a", "a"),
            ("[]a]", "a"),
            ("[-a]", "a"),
            ("a", ""),
            ("[^a]", "a"),
            ("\\", "\\x"),
        ] {
            assert!(!glob(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn any_pattern_is_tried_to_its_end(pattern in proptest::collection::vec(any::<u8>(), 0..60), text in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = glob(&pattern, &text);
        }

        #[test]
        fn a_text_is_like_itself_and_like_a_star(text in "[a-z0-9.:_-]{0,40}") {
            prop_assert!(glob(text.as_bytes(), text.as_bytes()) && glob(b"*", text.as_bytes()));
        }
    }
}
