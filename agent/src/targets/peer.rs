//! The other end of a connection, as the kernel side saw it. The descriptor itself is never touched: closing a
//! copy of it can wait for ever for a file system that its owner controls.

use std::net::{IpAddr, SocketAddr};

use tokentap_abi::{Family, Open};

/// The peer of a stream; `None` when the kernel side does not know it or it has no IP address.
#[must_use]
pub fn of(open: &Open) -> Option<SocketAddr> {
    let ip: IpAddr = match open.family() {
        Family::V4 => <[u8; 4]>::try_from(&open.addr[..4]).ok()?.into(),
        Family::V6 => open.addr.into(),
        Family::Unix | Family::Unknown => return None,
    };
    // `::ffff:10.0.0.1` is 10.0.0.1.
    Some(SocketAddr::new(ip.to_canonical(), open.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_their_family_says() {
        let mut mapped = [0; 16];
        mapped[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 1]);
        let open = |family, addr| Open { family, port: 443, addr, ..Open::default() };
        assert_eq!(of(&open(10, mapped)), Some("10.0.0.1:443".parse().unwrap()));
        let mut v4 = [0; 16];
        v4[..4].copy_from_slice(&[127, 0, 0, 1]);
        assert_eq!(of(&open(2, v4)), Some("127.0.0.1:443".parse().unwrap()));
        for family in [0, 1, 99] {
            assert_eq!(of(&open(family, v4)), None, "{family}");
        }
    }
}
