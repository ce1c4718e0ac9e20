//! A hash table of names that are kept elsewhere: four bytes a place, at most half of them taken.
//!
//! Names are hashed from their end to their front, so that one pass gives the hash of a name and of
//! every name above it: a name of a hundred labels costs little more than its length.

/// The position of the first rule for each name.
#[derive(Debug)]
pub(super) struct Names {
    /// Positions, 1 added; 0 where there is none. The number of places is a power of two.
    places: Vec<u32>,
}

/// What is known of a name.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The position for the name itself.
    pub(super) itself: Option<u32>,
    /// The position for the closest name above it. Most names have one at most.
    pub(super) above: Option<u32>,
    /// The positions for names farther above, the shortest name first.
    pub(super) farther: Vec<u32>,
}

impl Names {
    /// Room for so many names and no more.
    pub(super) fn with_room_for(names: usize) -> Self {
        Self { places: vec![0; (names * 2).max(1).next_power_of_two()] }
    }

    /// The positions for a name and those above it. `name_of` says which name a position has.
    pub(super) fn known<'n>(&self, name: &str, name_of: impl Fn(u32) -> &'n str) -> Known {
        let mut known = Known::default();
        let mut hash = Hash::default();
        for (at, byte) in name.bytes().enumerate().rev() {
            if byte == b'.' {
                let above = name.get(at + 1..).unwrap_or_default();
                if let Some(at) = self.probe(hash, above, &name_of) {
                    known.farther.extend(known.above.replace(at));
                }
            }
            hash.add(byte);
        }
        known.itself = self.probe(hash, name, &name_of);
        known
    }

    /// The position for a name alone.
    pub(super) fn find<'n>(&self, name: &str, name_of: impl Fn(u32) -> &'n str) -> Option<u32> {
        self.probe(Hash::of(name), name, &name_of)
    }

    /// Puts another position in the place of the one `before`, or into a free place.
    pub(super) fn replace(&mut self, name: &str, before: Option<u32>, at: u32) {
        let wanted = before.map_or(0, |before| before + 1);
        let (first, mask) = (Hash::of(name).place(), self.places.len() - 1);
        let Some(step) = self.walk(first).position(|place| place == wanted) else { return };
        if let Some(place) = self.places.get_mut(first.wrapping_add(step) & mask) {
            *place = at + 1;
        }
    }

    fn probe<'n>(&self, hash: Hash, name: &str, name_of: impl Fn(u32) -> &'n str) -> Option<u32> {
        let mut taken = self.walk(hash.place()).map_while(|place| place.checked_sub(1));
        taken.find(|at| name_of(*at) == name)
    }

    /// What stands in the places in which a name may be, one after the other.
    fn walk(&self, first: usize) -> impl Iterator<Item = u32> {
        let mask = self.places.len() - 1;
        let at = move |step| self.places.get(first.wrapping_add(step) & mask).copied();
        (0..self.places.len()).map_while(at)
    }
}

/// FNV-1a over the bytes of a name from its end. Whoever asks for names cannot put any in, so nobody
/// can make them meet.
#[derive(Clone, Copy)]
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn of(name: &str) -> Self {
        let mut hash = Self::default();
        name.bytes().rev().for_each(|byte| hash.add(byte));
        hash
    }

    const fn add(&mut self, byte: u8) {
        self.0 = (self.0 ^ byte as u64).wrapping_mul(0x0100_0000_01b3);
    }

    /// The upper half is the better one; the lower bits are those that are used.
    #[expect(clippy::cast_possible_truncation, reason = "a table has far fewer places")]
    const fn place(self) -> usize {
        (self.0 ^ (self.0 >> 32)) as usize
    }
}
