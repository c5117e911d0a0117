//! Servers that nobody here wrote, which speak HTTP/2 and forward to the mock.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    client::{Http, Job, Via},
    ledger::Answer,
    mock::Mock,
    parts,
    process::{PATIENCE, Process, Signal, wait_until},
    receiver::free_port,
};

/// A running server, and the mock behind it.
pub struct Front {
    mock: Mock,
    process: Process,
    plain: SocketAddr,
    tls: Option<SocketAddr>,
    _folder: TempDir,
}

impl Front {
    /// nginx, a master process and a worker: TLS, and HTTP/2 in the clear.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn nginx() -> Self {
        Self::nginx_that_listens("http2")
    }

    /// nginx that expects a PROXY protocol header before HTTP/1.1, or before TLS with either HTTP.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn nginx_behind_a_balancer() -> Self {
        Self::nginx_that_listens("proxy_protocol")
    }

    fn nginx_that_listens(how: &str) -> Self {
        Self::listening(|mock, folder, plain, tls| {
            let mock = mock.plain();
            let configuration = format!(
                "daemon off;\nuser root;\nworker_processes 1;\npid nginx.pid;\nevents {{}}\nhttp {{\n\
                 access_log off;\nclient_body_temp_path body;\nproxy_temp_path proxy;\n\
                 fastcgi_temp_path fastcgi;\nuwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n\
                 server {{\nlisten 127.0.0.1:{plain} {how};\nlisten 127.0.0.1:{tls} ssl http2 {how};\n\
                 ssl_certificate server.pem;\nssl_certificate_key server.pem;\n\
                 location / {{\nproxy_pass http://{mock};\nproxy_http_version 1.1;\nproxy_buffering off;\n}}\n}}\n}}\n",
            )
            .replace("ssl http2 http2", "ssl http2");
            let file = folder.path().join("nginx.conf");
            fs::write(&file, configuration).expect("a configuration is written");
            let mut command = Command::new(parts::part("servers/usr/sbin/nginx"));
            command.arg("-p").arg(folder.path()).args(["-e", "stderr", "-c"]).arg(file);
            command
        })
    }

    /// nghttp2's proxy: TLS, HTTP/2 in the clear, and HTTP/1.1 that goes on as HTTP/2.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn nghttpx() -> Self {
        Self::listening(|mock, folder, plain, tls| {
            let mut command = Command::new(parts::part("servers/usr/sbin/nghttpx"));
            command.args(["--single-process", "--conf=/dev/null", "--workers=1", "--host-rewrite"]);
            command.arg(format!("--frontend=127.0.0.1,{plain};no-tls"));
            command.arg(format!("--frontend=127.0.0.1,{tls}"));
            command.arg(format!("--backend=127.0.0.1,{}", mock.plain().port()));
            let identity = folder.path().join("server.pem");
            command.arg(&identity).arg(&identity);
            command
        })
    }

    /// Go's own HTTP server: HTTP/2 in the clear.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn go() -> Self {
        Self::printing(|mock| {
            let mut command = Command::new(parts::part("go-peer"));
            command.args(["serve", "--to", &format!("http://{}", mock.plain())]);
            command
        })
    }

    /// hyper: HTTP/2 in the clear.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn hyper() -> Self {
        Self::printing(|mock| {
            let mut command = Command::new(parts::program("hyper-peer"));
            command.args(["serve", "--to", &mock.plain().to_string()]);
            command
        })
    }

    /// Calls over HTTP/2 to it.
    ///
    /// # Panics
    /// When it has no TLS and that is wanted.
    #[must_use]
    pub fn job(&self, via: Via, requests: Vec<Value>) -> Job {
        let (scheme, address) = match via {
            Via::Tls => ("https", self.address(via)),
            Via::Plain => ("http", self.address(via)),
        };
        let mut job = Job::new(scheme, address, self.mock.ca(), requests);
        job.http = Http::Two;
        job
    }

    /// Waits for so many answers, all of which went out over this; they are as those saw them who asked here.
    ///
    /// # Panics
    /// When there are fewer, or it has no TLS and that is wanted.
    #[must_use]
    pub fn answers(&self, via: Via, count: usize) -> Vec<Answer> {
        let port = self.address(via).port();
        let answers = self.mock.ledger().wait_for_answers(count);
        answers.into_iter().map(|answer| Answer { port, ..answer }).collect()
    }

    /// The mock behind it.
    #[must_use]
    pub const fn mock(&self) -> &Mock {
        &self.mock
    }

    /// Its process.
    #[must_use]
    pub const fn process(&self) -> &Process {
        &self.process
    }

    /// Where it listens.
    ///
    /// # Panics
    /// When it has no TLS and that is wanted.
    #[must_use]
    pub fn address(&self, via: Via) -> SocketAddr {
        match via {
            Via::Plain => self.plain,
            Via::Tls => self.tls.expect("a server with TLS"),
        }
    }

    /// A server that is told its ports, plain and TLS.
    fn listening(command: impl FnOnce(&Mock, &TempDir, u16, u16) -> Command) -> Self {
        let (mock, folder) = (Mock::for_test(), tempfile::tempdir().expect("a temporary folder"));
        fs::write(folder.path().join("server.pem"), mock.identity()).expect("a certificate is written");
        let [plain, tls] = [free_port(), free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let process = Process::spawn(command(&mock, &folder, plain.port(), tls.port()));
        wait_until("the server listens", || {
            [plain, tls].iter().all(|address| TcpStream::connect(address).is_ok())
        });
        Self { mock, process, plain, tls: Some(tls), _folder: folder }
    }

    /// A server that prints its port.
    fn printing(command: impl FnOnce(&Mock) -> Command) -> Self {
        let (mock, folder) = (Mock::for_test(), tempfile::tempdir().expect("a temporary folder"));
        let process = Process::spawn(command(&mock));
        let port = process.port();
        let plain = SocketAddr::from(([127, 0, 0, 1], port));
        Self { mock, process, plain, tls: None, _folder: folder }
    }
}

impl Drop for Front {
    /// A master that is killed would leave its workers.
    fn drop(&mut self) {
        self.process.signal(Signal::TERM);
        self.process.wait(PATIENCE);
    }
}
