//! JSON with a line for each member, with every digit of its numbers: no value is read on the way.

/// The same document in lines. A text that is none comes out with its signs.
pub fn pretty(json: &str) -> String {
    let (mut out, mut depth, mut in_text, mut escaped) = (String::with_capacity(json.len() * 2), 0_usize, false, false);
    let mut signs = json.trim().chars().peekable();
    while let Some(sign) = signs.next() {
        if in_text {
            out.push(sign);
            (in_text, escaped) = (escaped || sign != '"', !escaped && sign == '\\');
            continue;
        }
        match sign {
            ' ' | '\t' | '\n' | '\r' => {}
            '{' | '[' => {
                while signs.next_if(char::is_ascii_whitespace).is_some() {}
                out.push(sign);
                if let Some(end) = signs.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    begin(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                begin(&mut out, depth);
                out.push(sign);
            }
            ',' => {
                out.push(sign);
                begin(&mut out, depth);
            }
            ':' => out.push_str(": "),
            '"' => {
                in_text = true;
                out.push(sign);
            }
            other => out.push(other),
        }
    }
    out
}

fn begin(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn lines_are_those_of_serde_json_and_numbers_keep_their_digits() {
        let document = json!({"a": {}, "b": [], "c": [1, {"d\"\\": "x, {y}\\"}], "e": null, "f": "", "g": ["\\\""]});
        for text in [document.to_string(), format!("{document:#}"), "\"a: [\"".to_owned(), "12".to_owned()] {
            let value: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(pretty(&text), format!("{value:#}"));
        }
        assert_eq!(pretty("{\"n\":123456789012345678901234567.89}"), "{\n  \"n\": 123456789012345678901234567.89\n}");
    }
}
