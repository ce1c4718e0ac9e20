//! An error and its causes in one line, for a person. Errors here name their cause themselves where
//! it matters, so that each is useful alone in a log; the line says nothing twice.

use std::error::Error;

/// `error`, then each cause that the text before does not already contain.
pub fn one_line(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Self>>,
    }

    fn layer(text: &'static str, source: Option<Layer>) -> Layer {
        Layer { text, source: source.map(Box::new) }
    }

    #[test]
    fn causes_are_added_unless_they_have_been_said() {
        let error =
            layer("cannot start", Some(layer("cannot bind: taken", Some(layer("taken", None)))));
        assert_eq!(one_line(&error), "cannot start: cannot bind: taken");
    }
}
