//! What holds for any exchanges, cuts, orders and losses.

use proptest::{prelude::*, sample::Index};

use super::*;

#[derive(Clone, Debug)]
struct Pair {
    request: Vec<u8>,
    response: Vec<u8>,
    trailers: bool,
}

fn pairs() -> impl Strategy<Value = Vec<Pair>> {
    let body = || prop::collection::vec(any::<u8>(), 0..30);
    let pair = (body(), body(), any::<bool>());
    let pair = pair.prop_map(|(request, response, trailers)| Pair { request, response, trailers });
    prop::collection::vec(pair, 1..8)
}

/// The frames of each exchange, by direction; a header refers to what the first one inserted.
fn frames(pairs: &[Pair]) -> [Vec<Vec<Bytes>>; 2] {
    let mut sides = [Vec::new(), Vec::new()];
    for (n, pair) in pairs.iter().enumerate() {
        let stream = 2 * n as u32 + 1;
        let path = format!("/{n}");
        let shared = |first: &[(&str, &str)], name| match n {
            0 => [block(first), block(&[(name, "shared")])].concat(),
            _ => [block(first), vec![0xbe]].concat(),
        };
        let head = shared(&[(":method", "POST"), (":path", &path)], "+x-ask");
        let half = pair.request.len() / 2;
        sides[0].push(vec![
            frame(1, END_HEADERS, stream, &head),
            frame(0, 0, stream, &pair.request[..half]),
            frame(0, END_STREAM, stream, &pair.request[half..]),
        ]);
        let status = (200 + n).to_string();
        let head = shared(&[(":status", &status)], "+x-tell");
        let end = u8::from(!pair.trailers);
        let mut answer = vec![frame(1, END_HEADERS, stream, &head), frame(0, end, stream, &pair.response)];
        if pair.trailers {
            answer.push(frame(1, END_HEADERS | END_STREAM, stream, &block(&[("t", "1")])));
        }
        sides[1].push(answer);
    }
    sides
}

/// Interleaves the frames of all exchanges: heads in order, the rest as the choices say.
fn interleave(exchanges: Vec<Vec<Bytes>>, choices: &[Index]) -> Vec<Bytes> {
    let mut queues: Vec<_> = exchanges.into_iter().map(|frames| frames.into_iter().peekable()).collect();
    let (mut begun, mut out, mut choices) = (0, Vec::new(), choices.iter().cycle());
    loop {
        let mut ready: Vec<usize> = (0..begun).filter(|&i| queues[i].peek().is_some()).collect();
        ready.extend((begun < queues.len()).then_some(begun));
        if ready.is_empty() {
            return out;
        }
        let next = ready[choices.next().unwrap().index(ready.len())];
        begun = begun.max(next + 1);
        out.extend(queues[next].next());
    }
}

fn cut(bytes: &[u8], sizes: &[usize]) -> Vec<Bytes> {
    let (mut rest, mut pieces, mut sizes) = (bytes, Vec::new(), sizes.iter().cycle());
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        pieces.push(piece.to_vec());
        rest = tail;
    }
    pieces
}

fn lines(pairs: &[Pair]) -> Vec<String> {
    let text = String::from_utf8_lossy;
    let line = |(n, pair): (usize, &Pair)| {
        format!("POST /{n} [{}] {} [{}] Complete", text(&pair.request), 200 + n, text(&pair.response))
    };
    pairs.iter().enumerate().map(line).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_cut_and_any_interleaving_give_the_same_exchanges(
        pairs in pairs(), choices in prop::collection::vec(any::<Index>(), 1..30),
        sizes in prop::collection::vec(1..60usize, 1..10), order in prop::collection::vec(any::<bool>(), 1..30),
    ) {
        let [ask, tell] = frames(&pairs).map(|side| interleave(side, &choices).concat());
        let mut write = cut(&ask, &sizes).into_iter();
        let mut read = cut(&tell, &sizes).into_iter();
        let mut watch = Watch::begun();
        for first in order.iter().cycle() {
            let next = if *first { write.next().map(|b| (Write, 10, b)) } else { read.next().map(|b| (Read, 20, b)) };
            if let Some((dir, time, bytes)) = next {
                watch.now = time;
                watch.piece(dir, &bytes);
            } else if write.len() == 0 && read.len() == 0 || order.iter().all(|o| o == first) {
                break;
            }
        }
        for (dir, rest) in [(Write, write), (Read, read)] {
            for bytes in rest {
                watch.now = if dir == Write { 10 } else { 20 };
                watch.piece(dir, &bytes);
            }
        }
        prop_assert_eq!(watch.recorder.lines(), lines(&pairs));
        prop_assert!(watch.recorder.dropped.is_empty(), "{:?}", watch.recorder.dropped);
    }

    #[test]
    fn joined_at_any_frame_or_with_losses_everything_told_is_right_or_marked(
        pairs in pairs(), choices in prop::collection::vec(any::<Index>(), 1..30),
        joined in any::<Index>(), lost in prop::collection::vec(any::<Index>(), 0..4), late in any::<bool>(),
    ) {
        let [ask, tell] = frames(&pairs).map(|side| interleave(side, &choices));
        let all: Vec<_> = ask.into_iter().map(|b| (Write, b)).chain(tell.into_iter().map(|b| (Read, b))).collect();
        let from = if late { joined.index(all.len()) } else { 0 };
        let lost: Vec<_> = lost.iter().map(|i| i.index(all.len())).collect();
        let mut watch = if late { Watch::new(Role::Client) } else { Watch::begun() };
        for (i, (dir, bytes)) in all.iter().enumerate().skip(from) {
            if lost.contains(&i) {
                watch.lose(*dir, bytes.len() as u64);
            } else {
                watch.call(*dir, bytes);
            }
        }
        watch.close();
        for seen in watch.recorder.seen.values() {
            let Some((_, n)) = seen.request.split_once('/') else { continue };
            let n: usize = n.parse().unwrap();
            prop_assert!(seen.status.is_none_or(|status| status == 0 || usize::from(status) == 200 + n));
            prop_assert!(seen.fields.iter().all(|field| *field == ("x-ask".into(), "shared".into())));
            if seen.ending == Some(Ending::Complete) && seen.request_ended && !seen.gap {
                prop_assert_eq!(&seen.request_body, &pairs[n].request);
                prop_assert_eq!(&seen.response_body, &pairs[n].response);
            }
        }
    }

    #[test]
    fn any_bytes_are_survived_and_every_exchange_ends_once(
        late in any::<bool>(),
        steps in prop::collection::vec(
            (any::<bool>(), 0..9u8, 0..11u8, any::<u8>(), 0..6u32, prop::collection::vec(any::<u8>(), 0..20)), 0..60),
    ) {
        let mut watch = if late { Watch::new(Role::Server) } else { Watch::begun() };
        watch.recorder.terminator = Some("4");
        for (read, what, kind, flags, stream, payload) in steps {
            let dir = if read { Read } else { Write };
            match what {
                0 => watch.lose(dir, u64::from(flags)),
                1 => watch.call(dir, &payload),
                2 if payload.len() < 3 => {
                    let (side, now) = (watch.side(dir), Nanos(watch.now));
                    watch.connection.half_close(side, now, &mut watch.recorder);
                    &mut watch
                }
                3 => {
                    let now = Nanos(watch.now);
                    watch.connection.sweep(now, Nanos(5), &mut watch.recorder);
                    &mut watch
                }
                4 => watch.call(dir, answer(stream, "200", flags > 200)),
                5 => watch.call(dir, ask(stream, "/", flags > 200)),
                _ => watch.call(dir, frame(kind, flags & 0x2d, stream, &payload)),
            };
        }
        watch.close();
        prop_assert!(watch.recorder.seen.values().all(|seen| seen.ending.is_some()));
    }
}
