//! Making new inputs of old ones.

/// Longest input.
const MAX_INPUT: usize = 16_384;

/// Draws inputs from a corpus.
#[derive(Debug)]
pub(crate) struct Mutator<'c> {
    random: fastrand::Rng,
    corpus: &'c [Vec<u8>],
    words: &'static [&'static str],
}

impl<'c> Mutator<'c> {
    pub(crate) fn new(seed: u64, corpus: &'c [Vec<u8>], words: &'static [&'static str]) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), corpus, words }
    }

    pub(crate) fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.pick().to_vec();
        for _ in 0..self.random.usize(1..6) {
            self.mutate(&mut input);
            input.truncate(MAX_INPUT);
        }
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let at = self.random.usize(0..=input.len());
        match self.random.u8(0..6) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << self.random.u8(0..8);
                }
            }
            1 if at < input.len() => drop(input.remove(at)),
            2 => input.insert(at, self.random.u8(..)),
            3 => {
                let end = self.random.usize(at..=input.len());
                input.extend_from_within(at..end);
                input.get_mut(at..).unwrap_or_default().rotate_right(end - at);
            }
            4 => {
                let other = self.pick();
                let from = self.random.usize(0..=other.len());
                input.truncate(at);
                input.extend_from_slice(other.get(from..).unwrap_or_default());
            }
            _ => {
                let word = self.random.choice(self.words).copied().unwrap_or_default();
                input.splice(at..at, word.bytes());
            }
        }
    }

    fn pick(&mut self) -> &'c [u8] {
        self.random.choice(self.corpus).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_inputs_and_another_does_not() {
        let corpus = [b"one".to_vec(), b"another".to_vec()];
        let inputs = |seed| {
            let mut mutator = Mutator::new(seed, &corpus, &["word"]);
            std::iter::repeat_with(|| mutator.next_input()).take(50).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        assert!(inputs(1).iter().all(|input| input.len() <= MAX_INPUT));
        assert!(inputs(1).iter().any(|input| !corpus.contains(input)));
    }
}
