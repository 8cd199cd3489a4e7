const http = require('node:http');
const greeting = require('greeting');

const server = http.createServer((_, answer) => answer.end(`${greeting('node')}, as user ${process.getuid()}\n`));
server.listen(3000);
process.on('SIGINT', () => process.exit(0));
