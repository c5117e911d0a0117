//! The other end of a socket of another process, whatever its network namespace.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{
    net::{SocketAddrAny, getpeername},
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};
use tokentap_abi::{Family, Open};

/// The peer as the kernel side saw it, else as the socket itself says.
#[must_use]
pub fn of(pid: u32, open: &Open) -> Option<SocketAddr> {
    seen(open).or_else(|| ask(pid, open.fd))
}

fn seen(open: &Open) -> Option<SocketAddr> {
    let ip: IpAddr = match open.family() {
        Family::V4 => <[u8; 4]>::try_from(&open.addr[..4]).ok()?.into(),
        Family::V6 => open.addr.into(),
        Family::Unix | Family::Unknown => return None,
    };
    Some(SocketAddr::new(canonical(ip), open.port))
}

/// Copies the descriptor and asks it: works for connections that were open before anybody watched.
fn ask(pid: u32, fd: i32) -> Option<SocketAddr> {
    let pid = Pid::from_raw(pid.cast_signed())?;
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    if fd < 0 {
        return None;
    }
    let socket: OwnedFd = pidfd_getfd(&process, fd, PidfdGetfdFlags::empty()).ok()?;
    address(std::os::fd::AsFd::as_fd(&socket))
}

fn address(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    let peer: SocketAddrAny = getpeername(socket).ok()??;
    let peer = SocketAddr::try_from(peer).ok()?;
    Some(SocketAddr::new(canonical(peer.ip()), peer.port()))
}

/// `::ffff:10.0.0.1` is 10.0.0.1.
fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::fd::AsRawFd as _,
    };

    use super::*;

    #[test]
    fn a_socket_tells_its_peer() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        let open = Open { fd: client.as_raw_fd(), ..Open::default() };
        assert_eq!(of(std::process::id(), &open), Some(server.local_addr().unwrap()));
        assert_eq!(of(std::process::id(), &Open { fd: -1, ..open }), None);
    }

    #[test]
    fn mapped_addresses_are_what_they_map() {
        let mut addr = [0; 16];
        addr[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 1]);
        let open = Open { family: 10, port: 443, addr, ..Open::default() };
        assert_eq!(seen(&open), Some("10.0.0.1:443".parse().unwrap()));
    }
}
