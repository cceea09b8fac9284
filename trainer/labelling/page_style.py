"""Looks and behaviour of the page on which tracklets get their names."""

from __future__ import annotations

STYLE = """
:root{--line:#d9dcd9;--soft:#f4f6f4;--ink:#222;--good:#2d7d46;--bad:#c0271d;--mark:#8a6d00}
*{box-sizing:border-box}
body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);margin:0 auto;max-width:84rem;
padding:0 1rem 4rem}
h1{font-size:1.35rem;margin:1rem 0 .2rem}p{margin:.3rem 0}kbd{border:1px solid #bbb;
border-radius:.25rem;padding:0 .3rem;background:var(--soft);font:13px system-ui}
#tools{position:sticky;top:0;z-index:2;background:#fff;padding:.5rem 0;border-bottom:1px solid
var(--line);display:flex;flex-wrap:wrap;gap:.6rem;align-items:center}
#tools button,#tools select,.card button{font:inherit;padding:.2rem .7rem;border:1px solid #aaa;
border-radius:.4rem;background:#fff;cursor:pointer}
#download{background:var(--good)!important;color:#fff;border-color:var(--good)!important}
#state{flex:1 0 22rem}#state b{font-variant-numeric:tabular-nums}
.warn{color:var(--bad);font-weight:600}
.card{display:grid;grid-template-columns:15rem 1fr;gap:.8rem;border:1px solid var(--line);
border-left:6px solid #bbb;border-radius:.5rem;padding:.6rem;margin:.6rem 0}
.card.on{border-left-color:var(--good);background:#f6faf7}
.card.marked{border-left-color:var(--mark);background:#fbf8ee}
.card.bad{border-left-color:var(--bad);background:#fdf2f1}.card.goes-on{margin-top:-.35rem}
.card.hidden{display:none}
.card svg{width:9rem;background:var(--soft);border:1px solid var(--line);display:block}
.card small{color:#666;display:block;overflow-wrap:anywhere}
.thumbs{display:flex;flex-wrap:wrap;gap:3px}.thumbs img{width:96px;height:96px;background:#ebebeb}
.thumbs img:hover{transform:scale(2.2);z-index:1;position:relative;outline:2px solid #fff}
.name{display:flex;flex-wrap:wrap;gap:.5rem;align-items:center;margin-top:.5rem}
.name input{font:inherit;font-size:1.05rem;padding:.25rem .5rem;width:15rem;border:2px solid #888;
border-radius:.4rem}.name input:focus{outline:3px solid #9cc8ab;border-color:var(--good)}
.bad .name input{border-color:var(--bad)}
.card .hint{border-style:dashed;color:#444}.hint:empty{display:none}
.why{color:var(--bad);flex-basis:100%;font-size:14px}.why:empty{display:none}
"""

# What `data` holds, `page.py` says.
SCRIPT = r"""
'use strict';
const data=JSON.parse(document.getElementById('data').textContent);
const valid=new RegExp(data.pattern),reserved=new Set(data.reserved),marks=data.marks;
const store='earmark-names-'+data.id,byName=new Map(data.tracklets.map(t=>[t.name,t]));
const cards=new Map([...document.querySelectorAll('.card')].map(c=>[c.dataset.name,c]));
const order=data.tracklets.map(t=>t.name),names=new Map();
const field=n=>cards.get(n).querySelector('input');
const isMark=x=>marks.includes(x),animalOf=n=>{const x=names.get(n);return x&&!isMark(x)?x:''};
function tidy(text){let x=text.trim().toLowerCase();
if(x.startsWith('!'))return marks.find(m=>m.startsWith(x.replace(/\s+/g,'-')))||x;
return x.replace(/[\s_]+/g,'-')}
function problem(n){const x=names.get(n);if(!x||isMark(x))return '';
if(!valid.test(x))return '“'+x+'”: use 2 to 48 of a-z, 0-9 and -, not beginning with -';
if(reserved.has(x))return '“'+x+'” has a meaning of its own; choose another';
const same=byName.get(n).together.filter(o=>animalOf(o)===x);
return same.length?'in one picture with '+same.join(', ')+', so not the same animal':''}
function hint(n){const t=byName.get(n),taken=new Set(t.together.map(animalOf));
const free=x=>x&&!taken.has(x);
const row=order.indexOf(n),parts=order.filter(o=>o!==n&&byName.get(o).track===t.track&&
byName.get(o).session===t.session&&free(animalOf(o)));
parts.sort((a,b)=>Math.abs(order.indexOf(a)-row)-Math.abs(order.indexOf(b)-row));
if(parts.length)return [animalOf(parts[0]),'same track as '+parts[0]];
for(const [o,d] of t.alike)if(free(animalOf(o)))return [animalOf(o),'looks like '+o+', '+
d.toFixed(2)];
if(t.suggestion&&free(t.suggestion.animal))
return [t.suggestion.animal,'nearest class mean, '+t.suggestion.distance.toFixed(2)];
return null}
function show(){let named=0,marked=0,bad=0;const all=new Set();
for(const n of order){const card=cards.get(n),x=names.get(n)||'',why=problem(n);
const h=x?null:hint(n),button=card.querySelector('.hint');
card.classList.toggle('bad',why!=='');card.classList.toggle('on',!!x&&!isMark(x));
card.classList.toggle('marked',isMark(x));card.querySelector('.why').textContent=why;
button.textContent=h?h[0]+' ('+h[1]+')':'';button.dataset.value=h?h[0]:'';
field(n).placeholder=h?h[0]+'?':'name';
if(isMark(x))marked++;else if(x){named++;all.add(x)}if(why)bad++}
const list=document.getElementById('animals');
list.replaceChildren(...[...all].sort().concat(marks).map(x=>{
const o=document.createElement('option');o.value=x;return o}));
document.getElementById('state').innerHTML='<b>'+named+'</b> of '+order.length+' named, <b>'+
all.size+'</b> animals, '+marked+' set aside'+
(bad?' <span class="warn">'+bad+' to correct</span>':'');filter()}
function filter(){const which=document.getElementById('which').value;
for(const n of order){const c=cards.get(n),x=names.get(n)||'';
c.classList.toggle('hidden',c.contains(document.activeElement)?false:
which==='open'?!!x:which==='bad'?!c.classList.contains('bad'):false)}}
function set(n,text){const x=tidy(text);if(x)names.set(n,x);else names.delete(n);
field(n).value=x;try{localStorage.setItem(store,JSON.stringify([...names]))}catch(e){}show()}
function step(n,by){const shown=[...document.querySelectorAll('.card:not(.hidden)')];
const row=shown.indexOf(cards.get(n))+by;
if(shown[row]){shown[row].querySelector('input').focus();
shown[row].scrollIntoView({block:'center'})}}
for(const [n,card] of cards){const input=card.querySelector('input');
input.addEventListener('change',()=>set(n,input.value));
input.addEventListener('keydown',event=>{
if(event.key==='Enter'){event.preventDefault();set(n,input.value);step(n,event.shiftKey?-1:1)}
else if(event.key==='ArrowRight'&&input.value===''){const x=card.querySelector('.hint').dataset
.value;if(x){event.preventDefault();set(n,x)}}
else if(event.key==='Escape'){set(n,'')}});
card.querySelector('.hint').addEventListener('click',event=>{
set(n,event.target.dataset.value);input.focus()});
for(const button of card.querySelectorAll('[data-mark]'))button.addEventListener('click',()=>
set(n,names.get(n)===button.dataset.mark?'':button.dataset.mark))}
function table(){const cell=x=>/[",\n;]/.test(x)?'"'+x.replace(/"/g,'""')+'"':x;
return 'tracklet,animal\n'+order.filter(n=>names.get(n)).map(n=>
cell(n)+','+cell(names.get(n))+'\n').join('')}
document.getElementById('download').addEventListener('click',()=>{
const a=document.createElement('a');
a.href=URL.createObjectURL(new Blob([table()],{type:'text/csv'}));a.download='names.csv';
document.body.append(a);a.click();a.remove()});
function load(text){const lines=text.replace(/^\ufeff/,'').split(/\r?\n/).slice(1);
for(const line of lines){const m=line.match(/^"?([^",;\t]+)"?[,;\t]"?([^",;\t]*)"?/);
if(m&&byName.has(m[1])){const x=tidy(m[2]);if(x){names.set(m[1],x);field(m[1]).value=x}}}
set(order[0],field(order[0]).value)}
document.getElementById('load').addEventListener('change',event=>{
const file=event.target.files[0];if(file)file.text().then(load);event.target.value=''});
document.getElementById('which').addEventListener('change',filter);
document.getElementById('by').addEventListener('change',event=>{const key=event.target.value;
const rows=[...order];if(key==='frames')rows.sort((a,b)=>cards.get(b).dataset.frames-
cards.get(a).dataset.frames);if(key==='name')rows.sort((a,b)=>(animalOf(a)||'~').localeCompare(
animalOf(b)||'~'));
for(const n of rows)cards.get(n).classList.toggle('goes-on',key==='time'&&
cards.get(n).dataset.goesOn==='1');
document.getElementById('cards').append(...rows.map(n=>cards.get(n)))});
try{for(const [n,x] of JSON.parse(localStorage.getItem(store)||'[]'))
if(byName.has(n)){names.set(n,x);field(n).value=x}}catch(e){}
show();
"""
