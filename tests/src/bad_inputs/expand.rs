//! Short forms of the table: `{{40*ab}}` is a text repeated.

use super::{Action, Row};

/// The row with its short forms written out.
pub(super) fn row(mut row: Row) -> Row {
    for text in
        row.setup.args.iter_mut().chain(row.setup.text.as_mut()).chain(row.upstream.reply.as_mut())
    {
        *text = repeated(text);
    }
    match &mut row.action {
        Action::Start => {}
        Action::Connect(text) | Action::Tls(text, _) | Action::TlsAtOnce(text, _) => {
            *text = repeated(text)
        }
        Action::Send(text) | Action::Admin(text) => *text = repeated(text),
        Action::Say(target, text) => {
            *target = repeated(target);
            *text = repeated(text);
        }
    }
    row
}

fn repeated(text: &str) -> String {
    let mut parts = text.split("{{");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let written = part.split_once("}}").and_then(|(inner, rest)| {
            let (count, unit) = inner.split_once('*')?;
            Some(unit.repeat(count.parse().ok()?) + rest)
        });
        whole.push_str(&written.unwrap_or_else(|| format!("{{{{{part}")));
    }
    whole
}
