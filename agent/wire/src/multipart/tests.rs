use proptest::{collection::vec, prelude::*};

use super::{field::parameter, *};

/// What was told, as text: `name=value;`, for a file `name(filename, type)=` and its length, `…` at the end of
/// what is not whole, `!reason`.
fn feed(parser: &mut Parser, body: &[u8], size: usize) -> String {
    let mut told = String::new();
    body.chunks(size).for_each(|piece| parser.feed(piece, |piece| tell(&mut told, piece)));
    told
}

fn tell(told: &mut String, piece: Piece<'_>) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    *told += &match piece {
        Piece::Part(Part { name, filename, content_type, file }) => {
            let name = name.map_or_else(|| "-".into(), text);
            assert_eq!(file, filename.is_some());
            let file = filename
                .map(|name| format!("({}, {})", text(name), content_type.map_or_else(|| "-".into(), text)));
            format!("{name}{}=", file.unwrap_or_default())
        }
        Piece::Value(bytes) => text(bytes),
        Piece::End { bytes, whole } => format!("[{bytes}{}", if whole { "] " } else { "…] " }),
        Piece::Lost(reason) => format!("!{reason} "),
    };
}

#[track_caller]
fn check_with(boundary: &str, body: &[u8], want: &str, end: Result<(), Reason>) {
    for size in [1, 2, 3, 5, 7, 29, 1000] {
        let mut parser = Parser::new(boundary.as_bytes(), 200);
        let told = feed(&mut parser, body, size);
        assert_eq!((told.as_str(), parser.finish()), (want, end), "in pieces of {size}");
    }
}

#[track_caller]
fn check(body: &[u8], want: &str) {
    check_with("b", body, want, Ok(()));
}

#[test]
fn forms_of_real_clients_are_read() {
    check_with(
        "------------------------bc6ab1f770ad6770",
        b"--------------------------bc6ab1f770ad6770\r\nContent-Disposition: form-data; name=\"file\"; \
          filename=\"a.wav\"\r\nContent-Type: application/octet-stream\r\n\r\nRIFF\r\n--\0\r\n\
          --------------------------bc6ab1f770ad6770\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n\
          whisper-1\r\n--------------------------bc6ab1f770ad6770\r\nContent-Disposition: form-data; \
          name=\"prompt\"\r\n\r\na \"b\"\r\nc\r\n--------------------------bc6ab1f770ad6770--\r\n",
        "file(a.wav, application/octet-stream)=[9] model=whisper-1[9] prompt=a \"b\"\r\nc[8] ",
        Ok(()),
    );
    // requests 2.34
    check_with(
        "89ac7c8637332811c30401569b383b27",
        b"--89ac7c8637332811c30401569b383b27\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n\
          --89ac7c8637332811c30401569b383b27\r\nContent-Disposition: form-data; name=\"empty\"\r\n\r\n\r\n\
          --89ac7c8637332811c30401569b383b27\r\nContent-Disposition: form-data; name=\"file\"; \
          filename=\"\xc3\xa4%22.wav\"\r\nContent-Type: audio/wav\r\n\r\nRIFF\r\n--\0\r\n\
          --89ac7c8637332811c30401569b383b27--\r\n",
        "model=whisper-1[9] empty=[0] file(ä%22.wav, audio/wav)=[9] ",
        Ok(()),
    );
    // The OpenAI SDK, and so httpx.
    check_with(
        "9cf959c79c5331fdb8c631a0058a20c7",
        b"--9cf959c79c5331fdb8c631a0058a20c7\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n\
          --9cf959c79c5331fdb8c631a0058a20c7\r\nContent-Disposition: form-data; \
          name=\"timestamp_granularities[]\"\r\n\r\nword\r\n--9cf959c79c5331fdb8c631a0058a20c7\r\n\
          Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/x-wav\r\n\r\n\
          RIFF\r\n--\0\r\n--9cf959c79c5331fdb8c631a0058a20c7--\r\n",
        "model=whisper-1[9] timestamp_granularities[]=word[4] file(a.wav, audio/x-wav)=[9] ",
        Ok(()),
    );
    // aiohttp 3.14
    check_with(
        "a2695a9ab1744fcbab22a8e4699d9866",
        b"--a2695a9ab1744fcbab22a8e4699d9866\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Disposition: \
          form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--a2695a9ab1744fcbab22a8e4699d9866--\r\n",
        "model=whisper-1[9] ",
        Ok(()),
    );
}

#[test]
fn rfc_2046_5_1_1_preamble_epilogue_and_padding_are_no_content() {
    check(
        b"This is a preamble.\r\n--b\r\n\r\none\r\n--b \t \r\n\r\ntwo\r\n--b--\t\r\nEpilogue\r\n--b\r\n\r\nx",
        "-=one[3] -=two[3] ",
    );
    check(b"preamble --b\r\n\r\n-\r\n--b--", "");
    check(b"--b--", "");
    check(b"", "");
}

#[test]
fn rfc_2046_5_1_1_only_a_whole_delimiter_ends_a_part() {
    for value in ["", "\r", "\r\n", "\r\n-", "\r\n--", "x--b", "\n--b", "a\r\r\n-\r\n--\r\n--c\r", "\r\n\r\n"]
    {
        let body = format!("--b\r\nContent-Disposition: form-data; name=n\r\n\r\n{value}\r\n--b--\r\n");
        check(body.as_bytes(), &format!("n={value}[{}] ", value.len()));
    }
    // The blank line is all that an empty part needs (body-part without its second CRLF).
    check(b"--b\r\nContent-Disposition: form-data; name=n\r\n\r\n--b\r\n\r\n--b--", "n=[0] -=[0] ");
}

#[test]
fn what_follows_a_boundary_must_be_the_end_of_its_line() {
    let lost = format!("!{} ", Reason::MultipartBoundaryInvalid);
    check(
        b"--b\r\n\r\none\r\n--bc\r\n\r\ntwo\r\n--b\r\n\r\nthree\r\n--b--",
        &format!("-=one[3…] {lost}-=three[5] "),
    );
    check(b"--b\rx\r\n--b-\r\n--b \n\r\n--b\r\n\r\n1\r\n--b--", &format!("{lost}{lost}{lost}-=1[1] "));
}

#[test]
fn a_head_over_the_bound_costs_its_part() {
    let long = "x".repeat(200);
    let body = format!(
        "--b\r\nX: {long}\r\n\r\none\r\n--b\r\nContent-Disposition: form-data; name=n\r\n\r\ntwo\r\n--b--"
    );
    check(body.as_bytes(), &format!("!{} n=two[3] ", Reason::HeadTooLong));
}

#[test]
fn heads_are_read_whatever_their_case_and_order() {
    check(
        b"--b\r\ncontent-TYPE:text/plain\r\nno field\r\nCONTENT-disposition:form-data;NAME=n;x;FileName=\"a;b.txt\"\r\n\r\nv\r\n--b--",
        "n(a;b.txt, text/plain)=[1] ",
    );
    check(
        b"--b\r\nContent-Disposition: form-data; name=\"a\\\"b\"; filename*=utf-8''%c3%a4\r\n\r\nv\r\n--b--",
        "a\\\"b(utf-8''%c3%a4, -)=[1] ",
    );
    check(
        b"--b\r\nContent-Disposition: form-data; name=n; filename=\"C:\\\"\r\n\r\nv\r\n--b--",
        "n(C:\\\", -)=[1] ",
    );
}

#[test]
fn a_body_that_is_cut_is_told_from_a_whole_one() {
    let body = b"--b\r\nContent-Disposition: form-data; name=n\r\n\r\nvalue\r\n--b--";
    for len in 1..body.len() {
        let mut parser = Parser::new(b"b", 200);
        feed(&mut parser, &body[..len], 100);
        assert_eq!(parser.finish(), Err(Reason::MultipartTruncated), "{len} bytes");
    }
    check_with("b", &body[..54], "n=value", Err(Reason::MultipartTruncated));
}

#[test]
fn after_a_gap_the_next_part_is_found() {
    let body = b"--b\r\nContent-Disposition: form-data; name=n\r\n\r\nvalue\r\n--b\r\n\r\nnext\r\n--b--";
    for (cut, want) in [(0, ""), (3, ""), (20, ""), (47, "n=[0…] "), (49, "n=va[2…] "), (56, "n=value[5…] ")]
    {
        let mut parser = Parser::new(b"b", 200);
        let mut told = feed(&mut parser, &body[..cut], 7);
        parser.gap(|piece| tell(&mut told, piece));
        told += &feed(&mut parser, b"lost\r\n--", 3);
        told += &feed(&mut parser, &body[52..], 3);
        assert_eq!((told, parser.finish()), (format!("{want}-=next[4] "), Ok(())), "gap after {cut}");
    }
    let mut parser = Parser::new(b"b", 200);
    feed(&mut parser, body, 100);
    parser.gap(|piece| panic!("{piece:?}"));
    assert_eq!(parser.finish(), Ok(()));
}

#[test]
fn rfc_9110_5_6_6_a_boundary_is_a_token_or_quoted() {
    for (content_type, want) in [
        ("multipart/form-data; boundary=abc", Some("abc")),
        ("Multipart/Form-Data;charset=utf-8 ; BOUNDARY=a-b'c ; x=y", Some("a-b'c")),
        ("multipart/form-data; x=\"; boundary=no\"; boundary=\"yes it is\"", Some("yes it is")),
        ("multipart/mixed; flag; boundary=b", Some("b")),
        ("multipart/form-data; boundary=", None),
        ("multipart/form-data; boundary=\"\"", None),
        ("multipart/form-data; boundary=\"a \"", None),
        ("multipart/form-data; boundary=\"a\r\nb\"", None),
        ("multipart/form-data", None),
        ("multipart/form-data; boundary", None),
        ("application/json; boundary=b", None),
        ("", None),
    ] {
        assert_eq!(boundary(content_type.as_bytes()), want.map(str::as_bytes), "{content_type}");
    }
    let long = |len| format!("multipart/form-data; boundary={}", "x".repeat(len));
    assert_eq!(boundary(long(70).as_bytes()).map(<[u8]>::len), Some(70));
    assert_eq!(boundary(long(71).as_bytes()), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_form_gives_its_fields_however_it_is_cut(
        parts in vec(("[a-z]{1,5}", "[ab\r\n-]{0,12}", any::<bool>()), 0..5), size in 1..30_usize,
    ) {
        let (mut body, mut want) = (String::new(), String::new());
        for (name, value, file) in parts.iter().filter(|(_, value, _)| !format!("\r\n{value}").contains("\r\n--b")) {
            let filename = if *file { "; filename=f" } else { "" };
            body += &format!("--b\r\nContent-Disposition: form-data; name={name}{filename}\r\n\r\n{value}\r\n");
            let value = if *file { format!("(f, -)=[{}] ", value.len()) } else { format!("={value}[{}] ", value.len()) };
            want += &format!("{name}{value}");
        }
        body += "--b--\r\n";
        prop_assert_eq!(feed(&mut Parser::new(b"b", 200), body.as_bytes(), size), want);
    }

    #[test]
    fn any_bytes_are_survived_alike_however_they_are_cut(
        body in "([ab:;=\"\\\\\r\n -]|\r\n--b|\r\n\r\n|name=|filename|Content-Disposition:){0,30}", size in 1..30_usize,
    ) {
        let want = feed(&mut Parser::new(b"b", 40), body.as_bytes(), 10_000);
        prop_assert_eq!(feed(&mut Parser::new(b"b", 40), body.as_bytes(), size), want);
    }

    #[test]
    fn any_field_value_and_any_boundary_are_survived(
        value in vec(prop_oneof![any::<u8>(), prop::sample::select(b";=\"\\ boundary".to_vec())], 0..40),
        boundary_bytes in vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-')], 0..5),
        body in vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-')], 0..40),
    ) {
        if let Some(boundary) = boundary(&[b"multipart/x;", &value[..]].concat()) {
            prop_assert!(!boundary.contains(&b'\r'));
        }
        prop_assert!(parameter(&value, "boundary").is_none_or(|found| found.len() < value.len()));
        Part::parse(&[b"Content-Disposition:", &value[..]].concat());
        feed(&mut Parser::new(&boundary_bytes, 40), &body, 3);
    }
}
