// The health check of docker-compose.yml, by mongosh: exit 0 when the mesh's user can log in to a
// primary. What is missing for that is made, one step after the other, so that it can be broken
// off anywhere: the replica set, the administrator `root`, the user of CALLMESH_MONGO_URL with
// the password that stands there (also a new one).
const { readFileSync } = require('fs');

const HERE = '127.0.0.1:27017';
// As the other containers see it; the member's name is what drivers connect to.
const MEMBER = 'mongodb:27017';
const REFUSED = 18; // AuthenticationFailed

const secret = (name) => readFileSync(`/run/secrets/${name}`, 'utf8').trim();
const mesh = new URL(secret('callmesh_mongo_url'));
const database = mesh.pathname.slice(1);

function connect(login = '', more = '') {
  const options = 'directConnection=true&serverSelectionTimeoutMS=3000';
  return new Mongo(`mongodb://${login}${HERE}/?${options}${more}`);
}

// null where the login is refused.
function loggedIn(user, password, source) {
  try {
    // Kept before it is returned: mongosh waits for what is assigned, so the catch sees its error.
    const found = connect(`${user}:${password}@`, `&authSource=${source}`);
    return found;
  } catch (error) {
    if (error.code === REFUSED) return null;
    throw error;
  }
}

function asRoot() {
  return loggedIn('root', encodeURIComponent(secret('mongodb_root_password')), 'admin');
}

function setUp() {
  // Without users, and from this machine alone, mongod lets the first one be made.
  const admin = (asRoot() ?? connect()).getDB('admin');
  if (!admin.hello().setName) {
    admin.runCommand({ replSetInitiate: { _id: 'rs0', members: [{ _id: 0, host: MEMBER }] } });
  }
  const deadline = Date.now() + 5000;
  while (!admin.hello().isWritablePrimary) {
    if (Date.now() > deadline) throw new Error('not yet a primary');
    sleep(100);
  }
  const root = asRoot();
  if (!root) {
    const roles = ['root'];
    admin.createUser({ user: 'root', pwd: secret('mongodb_root_password'), roles });
  }
  const users = (root ?? asRoot()).getDB(database);
  const wanted = { pwd: decodeURIComponent(mesh.password), roles: ['readWrite'] };
  if (users.getUser(mesh.username)) users.updateUser(mesh.username, wanted);
  else users.createUser({ user: mesh.username, ...wanted });
}

function serves() {
  const found = loggedIn(mesh.username, mesh.password, database);
  return found !== null && found.getDB(database).hello().isWritablePrimary;
}

if (!serves()) {
  setUp();
  if (!serves()) throw new Error('the mesh cannot log in');
}
