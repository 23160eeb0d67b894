"The embedded emoji: counts, checksums, split, faults, and the build from the packages."
import io, json, re, shutil, tarfile
from collections import Counter
import pandas as pd, pytest, torch
from PIL import Image
from diml_nb import data
from diml_nb.core import data_dir, sha256
from diml_nb.data import DESIGNS, Design, ImageSet, fetch_emoji, get_dataset, npm_pack, read_package, render_icon, verify

FOLDER = data_dir()/'emoji'
NETWORK = 'ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|network'


@pytest.fixture
def copy(tmp_path):
    "A root folder of its own with a copy of the embedded set."
    shutil.copytree(FOLDER, tmp_path/'root'/'emoji')
    return tmp_path/'root'


@pytest.fixture(scope='session')
def archives(tmp_path_factory):
    "The six archives, fetched with npm; skips only where npm or its registry cannot be reached."
    if not shutil.which('npm'): pytest.skip('npm is not installed: the packages cannot be fetched')
    folder = tmp_path_factory.mktemp('archives')
    try:
        for design in DESIGNS.values(): npm_pack(design, folder)
    except RuntimeError as error:
        if re.search(NETWORK, str(error)): pytest.skip(f'the npm registry cannot be reached: {error}')
        raise
    return folder


def contents(folder): return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


# the set as it is committed

def test_counts():
    emoji = get_dataset()
    assert (len(emoji), len(emoji.classes), len(set(emoji.paths))) == (592, 100, 592)
    assert emoji.label_n.dtype == torch.int64 and set(emoji.label_n.bincount(minlength=100).tolist()) == {5, 6}
    assert Counter(p.stem for p in emoji.paths) == {
        'noto': 100, 'noto-v1': 99, 'fluent-emoji': 100, 'fxemoji': 95, 'twemoji': 100, 'emojione': 98}
    assert all(emoji.classes[label] == p.parent.name for label, p in zip(emoji.label_n, emoji.paths))


def test_folder_holds_what_is_listed():
    listed = set(pd.read_csv(FOLDER/'ATTRIBUTION.csv').path)
    assert {p.relative_to(FOLDER).as_posix() for p in FOLDER.rglob('*.png')} == listed
    assert sum(p.stat().st_size for p in FOLDER.rglob('*') if p.is_file()) < 2e6


def test_images():
    pictures = []
    for path in get_dataset().paths:
        image = Image.open(path).convert('RGBA')
        low, high = image.getchannel('A').getextrema()
        assert image.size == (128, 128) and high > 250, path
        pictures.append((low, image.tobytes()))
    assert len({pixels for _, pixels in pictures}) == 592      # no picture twice
    assert sum(low == 0 for low, _ in pictures) > 550          # alpha is kept; a few drawings fill their square


def test_checksums(): assert verify() == 592


def test_attribution():
    rows = pd.read_csv(FOLDER/'ATTRIBUTION.csv', keep_default_na=False)
    assert not (rows == '').any().any()
    assert set(rows.licence) == {'Apache-2.0', 'MIT', 'CC-BY-4.0'}
    readme = (FOLDER/'README.md').read_text()
    assert all(author in readme for author in rows.author.unique())


def test_split_by_class():
    emoji = get_dataset()
    train, test = emoji.subset('train'), emoji.subset('test')
    a, b = set(train.label_n.tolist()), set(test.label_n.tolist())
    assert not a & b and len(a) >= 45 and len(b) >= 45 and len(a | b) == 100
    assert len(train) + len(test) == len(emoji)
    assert all(test.classes[label] == p.parent.name for label, p in zip(test.label_n, test.paths))
    halves = pd.read_csv(FOLDER/'classes.csv').groupby(['category', 'split']).size().unstack()
    assert (halves.train == halves.test).all()


def test_classes_are_single_emoji():
    table = pd.read_csv(FOLDER/'classes.csv')
    assert table['class'].is_unique and table.code_point.is_unique
    assert table.code_point.str.fullmatch('U[+][0-9A-F]{4,5}').all()
    number = table.code_point.str[2:].map(lambda digits: int(digits, 16))
    assert not number.between(0x1F1E6, 0x1F1FF).any() and not number.between(0x1F3FB, 0x1F3FF).any()   # flags, skin tones


# ImageSet

def test_hash_does_not_depend_on_the_place(copy):
    assert get_dataset(root=copy).hash == get_dataset().hash
    assert get_dataset(root=copy).subset('test').hash == get_dataset().subset('test').hash != get_dataset().hash


def test_hash_sees_every_part(tmp_path):
    def made(first=b'1', label=(0, 1), split=('train', 'test'), name='b'):
        folder = tmp_path/f'{len(list(tmp_path.iterdir()))}'
        folder.mkdir()
        for file, content in ((f'{name}.png', first), ('c.png', b'2')): (folder/file).write_bytes(content)
        return ImageSet('x', (folder/f'{name}.png', folder/'c.png'), torch.tensor(label), ('p', 'q'), split).hash
    assert made() == made()
    assert len({made(), made(first=b'3'), made(label=(1, 0)), made(split=('test', 'train')), made(name='d')}) == 5


def test_unknown_split():
    with pytest.raises(ValueError, match="no split 'val'.*test.*train"): get_dataset().subset('val')


# faults

def test_unknown_name():
    for call in (get_dataset, verify):
        with pytest.raises(ValueError, match='known: emoji'): call('cub')


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match='ATTRIBUTION.csv.*diml data fetch emoji'): get_dataset(root=tmp_path)
    with pytest.raises(FileNotFoundError, match='classes.csv'): fetch_emoji(tmp_path)


def test_missing_image_is_named(copy):
    (copy/'emoji'/'owl'/'noto.png').unlink()
    for call in (get_dataset, verify):
        with pytest.raises(FileNotFoundError, match='1 of 592.*owl/noto.png'): call(root=copy)


def test_tampered_image_is_named(copy):
    path = copy/'emoji'/'bus'/'twemoji.png'
    path.write_bytes(path.read_bytes()[:-1] + b'x')
    with pytest.raises(ValueError, match='1 of 592.*bus/twemoji.png'): verify(root=copy)


def test_wrong_checksum_stops_before_reading(tmp_path, monkeypatch):
    monkeypatch.setattr(tarfile, 'open', lambda *args, **kwargs: pytest.fail('the archive was opened'))
    file = tmp_path/DESIGNS['noto'].archive
    file.write_bytes(b'changed on the way')
    with pytest.raises(ValueError) as error: read_package(file, DESIGNS['noto'])
    assert all(part in str(error.value) for part in (file.name, DESIGNS['noto'].sha256, sha256(b'changed on the way')))


def test_npm_missing(copy, monkeypatch):
    monkeypatch.setenv('PATH', '')
    with pytest.raises(RuntimeError, match='Node.js'): fetch_emoji(copy)
    assert get_dataset(root=copy).hash == get_dataset().hash


def test_resvg_missing(copy, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'resvg_py', None)
    with pytest.raises(ImportError, match='pip install resvg-py'): fetch_emoji(copy)


# the build

def test_render_is_padded_and_the_same_each_time():
    icons = {'width': 10, 'height': 20, 'icons': {'i': {'body': '<path fill="#00f" d="M0 0h10v20H0z"/>'}}}
    png = render_icon(icons, 'i')
    assert png == render_icon(icons, 'i')
    assert Image.open(io.BytesIO(png)).convert('RGBA').getchannel('A').getbbox() == (32, 0, 96, 128)


@pytest.fixture
def small(tmp_path, monkeypatch):
    "Two classes, two designs, archives of our own: the build without a network."
    root, archives, designs = tmp_path/'root', tmp_path/'archives', {}
    (root/'emoji').mkdir(parents=True), archives.mkdir()
    parts = {'icons': {'width': 8, 'height': 8, 'icons': {n: {'body': f'<path fill="{c}" d="M0 0h4v8H0z"/>'} for n, c in (('a', 'red'), ('b', 'blue'))}},
             'chars': {}, 'info': {'author': {'name': 'me'}, 'license': {'spdx': 'MIT'}}}
    for name in ('one', 'two'):
        file = archives/Design(f'@x/{name}', '1', '', '', '').archive
        with tarfile.open(file, 'w:gz') as tar:
            for part, content in parts.items():
                member, text = tarfile.TarInfo(f'package/{part}.json'), json.dumps(content).encode()
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text))
        designs[name] = Design(f'@x/{name}', '1', sha256(file), 'MIT', 'me')
    monkeypatch.setattr(data, 'DESIGNS', designs)
    (root/'emoji'/'classes.csv').write_text('class,split,one,two\na,train,a,a\nb,test,b,\n')
    (root/'emoji'/'README.md').write_text('kept')
    return root, archives


def test_small_build(small):
    root, archives = small
    fetch_emoji(root, archives=archives)
    assert set(contents(root)) == {f'emoji/{f}' for f in ('classes.csv', 'README.md', 'ATTRIBUTION.csv', 'a/one.png', 'a/two.png', 'b/one.png')}
    images = get_dataset(root=root)
    assert images.label_n.tolist() == [0, 0, 1] and images.split_n == ('train', 'train', 'test') and verify(root=root) == 3
    before = contents(root)
    fetch_emoji(root, archives=archives)
    assert contents(root) == before


def test_failure_midway_leaves_the_old_set(small, monkeypatch):
    root, archives = small
    fetch_emoji(root, archives=archives)
    before, calls = contents(root), []
    def fails(*args):
        calls.append(args)
        if len(calls) == 3: raise OSError('disk full')
        return b'new'
    monkeypatch.setattr(data, 'render_icon', fails)
    with pytest.raises(OSError, match='disk full'): fetch_emoji(root, archives=archives)
    assert len(calls) == 3 and contents(root) == before and [p.name for p in root.iterdir()] == ['emoji']


def test_failing_rename_brings_the_old_set_back(small, monkeypatch):
    root, archives = small
    fetch_emoji(root, archives=archives)
    before, rename = contents(root), data.Path.rename
    def fails(self, target):
        if self.name == 'new': raise OSError('busy')
        return rename(self, target)
    monkeypatch.setattr(data.Path, 'rename', fails)
    with pytest.raises(OSError, match='busy'): fetch_emoji(root, archives=archives)
    assert contents(root) == before


def test_rebuild_is_the_same_to_the_byte(archives, copy):
    shutil.rmtree(copy/'emoji'/'ant')                            # nothing of the old drawings is needed
    fetch_emoji(copy, archives=archives)
    new, old = contents(copy/'emoji'), contents(FOLDER)
    assert set(new) == set(old)
    differ = [name for name in new if new[name] != old[name]]
    assert not differ, f'{len(differ)} files differ, first {differ[:3]}; are resvg-py and Pillow those of requirements.txt?'


def test_icons_are_those_of_the_code_points(archives):
    "Where a package lists code points, the icon of classes.csv is the one it lists; licences are those of info.json."
    table = pd.read_csv(FOLDER/'classes.csv', keep_default_na=False)
    for name, design in DESIGNS.items():
        pack = read_package(archives/design.archive, design)
        assert (pack['info']['author']['name'], pack['info']['license']['spdx']) == (design.author, design.licence)
        for code, icon in zip(table.code_point.str[2:].str.lower(), table[name]):
            listed = pack['chars'].get(code, icon)
            assert pack['icons'].get('aliases', {}).get(listed, {'parent': listed})['parent'] == icon, (name, code)
        assert bool(pack['chars']) == (name in ('noto', 'twemoji'))
