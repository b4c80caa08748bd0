//! Limits for the nesting of policies, checked before Cedar parses them.
//!
//! Cedar walks and drops expressions recursively, and `1 + 1 + 1` is as deep as it is long. A hostile or generated text
//! would exhaust the stack, which ends the process. So brackets and operators are counted first.

/// Maximum nesting of brackets in a policy.
const MAX_BRACKETS: usize = 16;

/// Maximum number of operators in a policy.
const MAX_OPERATORS: usize = 512;

/// Number of operators that an `if` counts as, because it needs more stack.
const IF_WEIGHT: usize = 8;

/// Maximum length of a policy, in bytes.
const MAX_BYTES: usize = 64 * 1024;

/// Returns the position of a policy that exceeds a limit, and the correction. Strings and comments do not count.
pub(super) fn exceeded(text: &str) -> Option<(usize, String)> {
    let (mut brackets, mut operators, mut begin) = (0_usize, 0, 0);
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => {
                while let Some((_, byte)) = bytes.next() {
                    match byte {
                        b'\\' => drop(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            b'/' if bytes.peek().is_some_and(|(_, next)| *next == b'/') => {
                while bytes.next_if(|(_, byte)| *byte != b'\n').is_some() {}
            }
            b'(' | b'[' | b'{' => brackets += 1,
            b')' | b']' | b'}' => brackets = brackets.saturating_sub(1),
            b';' => (begin, operators) = (at + 1, 0),
            b'&' | b'|' => {
                // `&&` and `||` are two characters each.
                let _ = bytes.next_if(|(_, next)| *next == byte);
                operators += 1;
            }
            b'+' | b'-' | b'*' | b'!' | b'.' => operators += 1,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                let mut end = at + 1;
                while let Some((last, _)) =
                    bytes.next_if(|(_, b)| b.is_ascii_alphanumeric() || *b == b'_')
                {
                    end = last + 1;
                }
                operators += match text.get(at..end) {
                    Some("if") => IF_WEIGHT,
                    Some("when" | "unless") => 1,
                    _ => 0,
                };
            }
            _ => {}
        }
        let divide = "write several policies, or one policy for a group";
        if brackets > MAX_BRACKETS {
            return Some((at, format!("more than {MAX_BRACKETS} nested brackets: {divide}")));
        }
        if operators > MAX_OPERATORS {
            return Some((
                at,
                format!("more than {MAX_OPERATORS} operators in a policy: {divide}"),
            ));
        }
        if at.saturating_sub(begin) > MAX_BYTES {
            return Some((begin, format!("a policy has more than {MAX_BYTES} bytes: {divide}")));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::access::{ActionName, Caller, PolicySet, PolicyText, Resource};

    #[test]
    fn the_deepest_accepted_policies_fit_a_small_stack() {
        let deepest = |one: &str, end: &str, close: &str| {
            let policy = |times: usize| {
                let (body, close) = (one.repeat(times), close.repeat(times));
                format!("permit (principal, action, resource) when {{ {body}{end}{close} }};")
            };
            // The deepest policy that is accepted.
            (1..=MAX_OPERATORS * 2).rev().map(policy).find(|p| exceeded(p).is_none())
        };
        for (one, end, close) in [
            ("1 + ", "1 == 1", ""),
            ("1 * ", "1 == 1", ""),
            ("1 - ", "1 == 1", ""),
            ("true && ", "true", ""),
            ("false || ", "true", ""),
            ("if false then true else ", "true", ""),
            ("if ", "true", " then true else false"),
            ("principal has method && ", "true", ""),
            ("[", "1", "]"),
            ("{a:", "1", "}"),
            ("(", "true", ")"),
            ("(true && ", "true", ")"),
            ("principal == principal && ", "principal", ".a"),
            ("true } when { ", "true", ""),
        ] {
            let policy = deepest(one, end, close).unwrap();
            let text = PolicyText { policy, ..PolicyText::default() };
            let read = move || {
                if let Ok((set, _)) = PolicySet::parse(&text, &[]) {
                    let tenant: Resource = "applications/a/tenants/Cust1".parse().unwrap();
                    let action = ActionName::ReadTenants;
                    let _ = set.decide(&Caller::anonymous(), action, &tenant, None);
                }
            };
            let small = thread::Builder::new().name(one.to_owned()).stack_size(1024 * 1024);
            small.spawn(read).unwrap().join().unwrap();
        }
    }

    #[test]
    fn strings_and_comments_do_not_count() {
        let text = format!(
            "permit (principal, action, resource) // {0}\n when {{ \"{0}\\\"\" == \"{0}\" }};",
            "((((++++".repeat(999)
        );
        assert_eq!(exceeded(&text), None);
        let text = "permit (principal, action, resource) when { 1 + 1 == 2 };\n".repeat(9999);
        assert_eq!(exceeded(&text), None);
        assert!(exceeded("\"((((").is_none() && exceeded("\"\\").is_none());
    }
}
