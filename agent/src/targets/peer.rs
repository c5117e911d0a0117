//! The other end of a connection, as the kernel side saw it.

use std::net::{IpAddr, SocketAddr};

use tokentap_abi::{Family, Open};

/// The peer's address, where there is one: `::ffff:10.0.0.1` is 10.0.0.1.
#[must_use]
pub fn of(_pid: u32, open: &Open) -> Option<SocketAddr> {
    let ip: IpAddr = match open.family() {
        Family::V4 => <[u8; 4]>::try_from(&open.addr[..4]).ok()?.into(),
        Family::V6 => open.addr.into(),
        Family::Unix | Family::Unknown => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), open.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_are_what_they_map() {
        let mut addr = [0; 16];
        addr[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 1]);
        let open = Open { family: 10, port: 443, addr, ..Open::default() };
        assert_eq!(of(1, &open), Some("10.0.0.1:443".parse().unwrap()));
        assert_eq!(of(1, &Open::default()), None);
    }
}
