// What dockerode is used for, against the engine at DOCKER_HOST.
const assert = require('assert');
const { PassThrough } = require('stream');
const Docker = require('dockerode');

const docker = new Docker();

// All that a stream brings until its end.
const whole = (stream) => new Promise((resolve, reject) => {
  const parts = [];
  stream.on('data', (part) => parts.push(part));
  stream.on('error', reject);
  stream.on('end', () => resolve(Buffer.concat(parts).toString()));
});

// Output and errors of a framed stream.
const apart = async (stream) => {
  const [out, err] = [new PassThrough(), new PassThrough()];
  docker.modem.demuxStream(stream, out, err);
  stream.on('end', () => { out.end(); err.end(); });
  return Promise.all([whole(out), whole(err)]);
};

const main = async () => {
  assert.strictEqual((await docker.ping()).toString(), 'OK');
  assert.strictEqual((await docker.info()).OSType, 'linux');

  // `run` attaches before it starts.
  const shown = new PassThrough();
  const text = whole(shown);
  const [ended, done] = await docker.run('busybox', ['echo', 'hello'], shown, { Tty: true });
  assert.strictEqual(ended.StatusCode, 0);
  assert.strictEqual(await text, 'hello\r\n');
  await done.remove();

  const network = await docker.createNetwork({ Name: 'node', Driver: 'bridge', Labels: { of: 'test' } });
  await docker.createVolume({ Name: 'node' });
  const container = await docker.createContainer({
    Image: 'busybox', name: 'node', Cmd: ['cat'], OpenStdin: true, StdinOnce: true, Labels: { of: 'test' },
    ExposedPorts: { '80/tcp': {} },
    HostConfig: { Binds: ['node:/data'], PortBindings: { '80/tcp': [{ HostPort: '8082' }] }, NetworkMode: 'node' },
  });
  const stream = await container.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
  const echoed = apart(stream);
  await container.start();

  const exec = await container.exec({ Cmd: ['sh', '-c', 'cat; echo err >&2; exit 4'], AttachStdin: true,
    AttachStdout: true, AttachStderr: true });
  const typed = await exec.start({ hijack: true, stdin: true });
  const said = apart(typed);
  typed.end('typed\n');
  assert.deepStrictEqual(await said, ['typed\n', 'err\n']);
  assert.strictEqual((await exec.inspect()).ExitCode, 4);

  assert.strictEqual((await container.stats({ stream: false })).name, '/node');
  assert.strictEqual((await container.inspect()).NetworkSettings.Ports['80/tcp'][0].HostPort, '8082');
  assert.ok((await container.top()).Processes.length >= 1);
  const found = await docker.listContainers({ filters: { label: ['of=test'] } });
  assert.deepStrictEqual(found.map((one) => one.Names[0]), ['/node']);

  // The end of what is typed is the container's end.
  stream.end('to the end\n');
  assert.deepStrictEqual(await echoed, ['to the end\n', '']);
  assert.strictEqual((await container.wait()).StatusCode, 0);
  const logs = await container.logs({ stdout: true, stderr: true });
  assert.ok(logs.toString().endsWith('to the end\n'));

  const events = await docker.getEvents({ since: 1, until: Math.floor(Date.now() / 1000) + 1,
    filters: { container: ['node'], event: ['create', 'start', 'die'] } });
  const actions = (await whole(events)).trim().split('\n').map((line) => JSON.parse(line).Action);
  assert.deepStrictEqual(actions, ['create', 'start', 'die']);

  const archive = await container.getArchive({ path: '/etc' });
  assert.ok((await whole(archive)).includes('ustar'));
  await assert.rejects(docker.getContainer('no-such').inspect(), (error) => error.statusCode === 404);
  await container.remove();
  await network.remove();
  await docker.getVolume('node').remove();
  assert.strictEqual((await docker.listContainers({ all: true })).length, 0);
  console.log('all of it');
};

main().catch((error) => { console.error(error); process.exit(1); });
