//! Token counts: as sent, and in the conventions' terms.

use tokentap_wire::json::Value;

use super::count;

/// A number in a usage object, by what it counts. Where it stands is a matter of each API's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    Input,
    Output,
    /// What the first event of a stream says of the output: a few tokens, and final only where no other count follows.
    OutputAtStart,
    Total,
    /// What a model counted, where others are billed.
    UnbilledInput,
    UnbilledOutput,
    CacheRead,
    CacheWrite,
    /// Parts of what was written to the cache, by how long it is kept.
    CacheWrite5m,
    CacheWrite1h,
    Reasoning,
    TextInput,
    TextOutput,
    ImageInput,
    ImageOutput,
    AudioInput,
    AudioOutput,
}

const COUNTS: usize = Count::AudioOutput as usize + 1;
const ABSENT: i64 = -1;

/// Numbers as they were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts([i64; COUNTS]);

impl Default for Counts {
    fn default() -> Self {
        Self([ABSENT; COUNTS])
    }
}

impl Counts {
    pub(crate) const fn get(&self, which: Count) -> Option<i64> {
        match self.0[which as usize] {
            ABSENT => None,
            n => Some(n),
        }
    }

    pub(crate) const fn set(&mut self, which: Count, n: i64) {
        self.0[which as usize] = n;
    }

    /// Takes a value; what is no count leaves the one before.
    pub(crate) fn read(&mut self, which: Count, value: Value<'_>) {
        if let Some(n) = count(value) {
            self.set(which, n);
        }
    }

    /// Whether something says how many tokens went in or came out.
    pub(crate) fn has_tokens(&self) -> bool {
        use Count::{Input, Output, Total, UnbilledInput, UnbilledOutput};
        [Input, Output, Total, UnbilledInput, UnbilledOutput].iter().any(|&which| self.get(which).is_some())
    }

    /// Whether tokens went in or came out.
    fn counts_some(&self) -> bool {
        use Count::{Input, Output, Total, UnbilledInput, UnbilledOutput};
        [Input, Output, Total, UnbilledInput, UnbilledOutput].iter().any(|&which| self.0[which as usize] > 0)
    }

    /// Takes the numbers of a later object. One in which no token went in says nothing about the input, and zero says
    /// nothing about the output: servers that do not count a thing again send zeros.
    fn update(&mut self, newer: &Self) {
        const INPUT: [Count; 3] = [Count::Input, Count::CacheRead, Count::CacheWrite];
        let no_input = INPUT.iter().all(|&which| newer.0[which as usize] <= 0);
        for (index, (known, &n)) in self.0.iter_mut().zip(&newer.0).enumerate() {
            let uncounted = no_input && INPUT.iter().any(|&which| which as usize == index);
            let taken_back = n == 0 && index == Count::Output as usize && *known != ABSENT;
            if n != ABSENT && !uncounted && !taken_back {
                *known = n;
            }
        }
    }
}

/// How the usage of an API is to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UsageRule {
    /// A later usage object overrides an earlier one field by field, instead of as a whole.
    pub(crate) merge: bool,
    /// The numbers stand beside other fields, without an object of their own that could be incomplete.
    pub(crate) flat: bool,
    /// The input does not include the cached tokens (wire.md: Anthropic, all hostings).
    pub(crate) cache_apart: bool,
    pub(crate) reasoning: Reasoning,
    /// Every event has the counts so far: those before a gap are not the last ones.
    pub(crate) cumulative: bool,
    /// Nothing comes out that is counted, so that the total is the input where nothing else says that.
    pub(crate) input_only: bool,
}

/// Whether the output includes the reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reasoning {
    Included,
    /// Reasoning is counted beside the output.
    Apart,
    /// The total shows it: some servers of the format include it, and others do not.
    ByTotal,
}

impl UsageRule {
    /// One object, in which the input includes cached tokens and the output reasoning.
    pub(crate) const PLAIN: Self = Self {
        merge: false,
        flat: false,
        cache_apart: false,
        reasoning: Reasoning::Included,
        cumulative: false,
        input_only: false,
    };

    /// Of what has no output: embeddings, reranking.
    pub(crate) const INPUT_ONLY: Self = Self { input_only: true, ..Self::PLAIN };
}

/// The usage objects of one call, as they come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct UsageReader {
    /// The object that is read.
    current: Counts,
    /// There are objects: numbers of one that is incomplete do not count.
    objects: bool,
    last: Option<Counts>,
    /// Bytes were lost after the last object.
    stale: bool,
}

impl UsageReader {
    pub(super) fn object(&mut self, value: Value<'_>, rule: UsageRule) {
        match value {
            Value::Object => {
                self.objects = true;
                self.current = Counts::default();
            }
            // An incomplete object may lack what others have to be added to: it is ignored.
            Value::End if rule.merge => {
                let current = std::mem::take(&mut self.current);
                self.stale &= !current.has_tokens();
                self.last.get_or_insert_default().update(&current);
            }
            // Zeros after counts, or where a gap may have held counts, take nothing back.
            Value::End if self.current.has_tokens() && (self.is_first() || self.current.counts_some()) => {
                self.last = Some(self.current);
                self.stale = false;
            }
            _ => {}
        }
    }

    #[inline]
    pub(super) fn count(&mut self, which: Count, value: Value<'_>) {
        self.current.read(which, value);
    }

    /// Nothing was counted before, as far as is known.
    const fn is_first(&self) -> bool {
        self.last.is_none() && !self.stale
    }

    pub(super) fn set_current(&mut self, which: Count, n: i64) {
        self.current.set(which, n);
    }

    pub(super) fn get_current(&self, which: Count) -> Option<i64> {
        self.current.get(which)
    }

    /// Takes what a later part of the call says.
    pub(super) fn absorb(&mut self, newer: &Self) {
        if let Some(last) = newer.last {
            (self.last, self.stale) = (Some(last), false);
        }
    }

    /// Sets a count that no body says, beside those that bodies say.
    pub(super) fn set_if_absent(&mut self, which: Count, n: i64, rule: UsageRule) {
        let mut counts = self.counts(rule).unwrap_or_default();
        if counts.get(which).is_none() {
            counts.set(which, n);
            self.last = Some(counts);
        }
    }

    pub(super) const fn gap(&mut self) {
        self.stale = true;
    }

    pub(super) fn counts(&self, rule: UsageRule) -> Option<Counts> {
        match self.last {
            _ if self.stale && rule.cumulative => None,
            None if rule.flat && !self.objects && self.current != Counts::default() => Some(self.current),
            last => last,
        }
    }
}

/// Token counts, in the convention's terms: input includes what was cached, output includes reasoning.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) input: Option<i64>,
    pub(crate) output: Option<i64>,
    pub(crate) cache_read: Option<i64>,
    pub(crate) cache_write: Option<i64>,
    pub(crate) reasoning: Option<i64>,
    pub(crate) text_input: Option<i64>,
    pub(crate) text_output: Option<i64>,
    pub(crate) image_input: Option<i64>,
    pub(crate) image_output: Option<i64>,
    pub(crate) audio_input: Option<i64>,
    pub(crate) audio_output: Option<i64>,
}

impl Counts {
    /// `complete`: all events came, so that a count of the first event is final where no other one followed.
    pub(super) fn into_usage(self, rule: UsageRule, complete: bool) -> Usage {
        let get = |which| self.get(which);
        let by_age = [get(Count::CacheWrite5m), get(Count::CacheWrite1h)]
            .into_iter()
            .flatten()
            .reduce(i64::saturating_add);
        let cache_write = get(Count::CacheWrite).or(by_age);
        let (cache_read, reasoning) = (get(Count::CacheRead), get(Count::Reasoning));
        let mut input = get(Count::Input).or_else(|| get(Count::UnbilledInput));
        let mut output = get(Count::Output)
            .or_else(|| get(Count::UnbilledOutput))
            .or_else(|| get(Count::OutputAtStart).filter(|_| complete));
        let add = |to: &mut Option<i64>, n: Option<i64>| {
            *to = to.map(|to| to.saturating_add(n.unwrap_or(0)));
        };
        if rule.input_only {
            (input, output) = (input.or_else(|| get(Count::Total)), None);
        }
        if rule.cache_apart {
            add(&mut input, cache_read);
            add(&mut input, cache_write);
        }
        match rule.reasoning {
            Reasoning::Included => {}
            Reasoning::Apart if output.is_none() => output = reasoning,
            Reasoning::Apart => add(&mut output, reasoning),
            Reasoning::ByTotal => {
                let (cached_apart, reasoning_apart) = self.apart_by_total();
                add(&mut input, cache_read.filter(|_| cached_apart));
                add(&mut output, reasoning_apart);
            }
        }
        Usage {
            input,
            output,
            cache_read,
            cache_write,
            reasoning,
            text_input: get(Count::TextInput),
            text_output: get(Count::TextOutput),
            image_input: get(Count::ImageInput),
            image_output: get(Count::ImageOutput),
            audio_input: get(Count::AudioInput),
            audio_output: get(Count::AudioOutput),
        }
    }

    /// Whether cached tokens are counted beside the input, and how much reasoning beside the output. Most servers include
    /// both; where they do not (xAI's reasoning, Azure's Grok), only the total shows it, and behind Gemini's
    /// compatible endpoint the total is all that shows reasoning.
    fn apart_by_total(&self) -> (bool, Option<i64>) {
        let (Some(input), Some(output), Some(total)) =
            (self.get(Count::Input), self.get(Count::Output), self.get(Count::Total))
        else {
            return (false, None);
        };
        let (reasoning, cached) =
            (self.get(Count::Reasoning).unwrap_or(0), self.get(Count::CacheRead).unwrap_or(0));
        match total.saturating_sub(input).saturating_sub(output) {
            apart if apart <= 0 => (false, None),
            apart if apart == reasoning => (false, Some(reasoning)),
            apart if apart == cached => (true, None),
            apart if apart == reasoning.saturating_add(cached) => (true, Some(reasoning)),
            apart if reasoning == 0 && cached == 0 => (false, Some(apart)),
            _ => (false, None),
        }
    }
}
