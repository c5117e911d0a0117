// A server of two processes that get their connections from a third; they forward each request to the port that is named.
import cluster from 'node:cluster';
import http from 'node:http';

if (cluster.isPrimary) {
  let ready = 0;
  cluster.on('listening', (_worker, { port }) => {
    if (++ready === 2) console.log(JSON.stringify({ port }));
  });
  // They end with their input, and so with this process.
  for (let worker = 0; worker < 2; worker++) cluster.fork();
} else {
  const server = http.createServer((request, response) => {
    const { method, url: path, headers } = request;
    const forwarded = http.request({ host: '127.0.0.1', port: process.argv[2], method, path, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    request.pipe(forwarded);
  });
  server.listen(0, '127.0.0.1');
}
